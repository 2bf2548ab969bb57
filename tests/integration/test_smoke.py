# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a sandbox by a playbook and by ad hoc commands: what `make matrix` runs with each ansible-core, Python and connection (noxfile.py).

KATA_SMOKE_CONNECTION is local, ssh, paramiko_ssh or mitogen (over ssh), KATA_SMOKE_PYTHON the interpreter of the host.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.ansible_programs import ansible
from tests.support.checkout import ROOT
from tests.support.guest_assets import Assets
from tests.support.lab import SandboxLab, removed_afterwards
from tests.support.loopback_sshd import loopback_sshd
from tests.support.mock_lab import BOOT, MockLab
from tests.support.qemu_lab import QemuLab

CONNECTION = os.environ.get("KATA_SMOKE_CONNECTION", "local")
PYTHON = os.environ.get("KATA_SMOKE_PYTHON", sys.executable)

pytestmark = pytest.mark.long


def settings() -> dict[str, str]:
    """The environment of Ansible's programs."""
    found = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOST_KEY_CHECKING": "0"}
    if CONNECTION == "mitogen":
        spec = importlib.util.find_spec("ansible_mitogen")
        assert spec and spec.origin
        strategies = pathlib.Path(spec.origin).parent / "plugins/strategy"
        found |= {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(strategies)}
    return found


@pytest.fixture(scope="module", name="host")
def fixture_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The variables of the host: this machine, reached in the way that is asked for."""
    if CONNECTION == "local":
        yield {"ansible_connection": "local", "ansible_python_interpreter": PYTHON}
        return
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as sshd:
        connection = "ssh" if CONNECTION == "mitogen" else CONNECTION
        yield {**sshd.variables(), "ansible_connection": connection, "ansible_python_interpreter": PYTHON}


def inventory(work: pathlib.Path, lab: SandboxLab, host: dict[str, Any]) -> str:
    """A directory with the host, and the plugin that makes its sandboxes hosts."""
    directories = {f"kata_sandbox_{name}": path for name, path in lab.directories().items()}
    hosts = {"kvm": {"hosts": {"host1": {**host, **directories}}}}
    (work / "hosts.json").write_text(json.dumps({"all": {"children": hosts}}))
    (work / "sandboxes.yml").write_text(json.dumps({"plugin": "kata.hypervisor.sandboxes", "hosts": "kvm"}))
    return str(work)


def play(work: pathlib.Path, lab: SandboxLab, host: dict[str, Any], **variables: str) -> None:
    said = ansible(
        "ansible-playbook",
        "-i",
        inventory(work, lab, host),
        "-v",
        str(ROOT / "tests/integration/smoke.yml"),
        "-e",
        json.dumps(variables),
        **settings(),
    )
    assert re.search(r"^host1 +: .* failed=0 .* ignored=1 ", said, re.MULTILINE), said
    # A table of three rows, by the action plugin.
    assert all(re.search(rf"^{name} .*host1|host1 .*{name}", said, re.MULTILINE) for name in ("smoke-1", "smoke-2")), (
        said
    )


def test_a_playbook_with_the_mock_driver(tmp_path: pathlib.Path, host: dict[str, Any]) -> None:
    with removed_afterwards(MockLab(tmp_path / "lab")) as lab:
        play(tmp_path, lab, host, hypervisor="mock", kernel=BOOT["kernel_path"], initrd=BOOT["initrd_path"])


def test_a_playbook_with_qemu(tmp_path: pathlib.Path, host: dict[str, Any], assets: Assets) -> None:
    with removed_afterwards(QemuLab(assets)) as lab:
        play(tmp_path, lab, host, hypervisor="qemu", kernel=str(assets.kernel), initrd=str(assets.agent_initrd))


def test_ad_hoc_commands(tmp_path: pathlib.Path, host: dict[str, Any]) -> None:
    with removed_afterwards(MockLab(tmp_path / "lab")) as lab:
        where = inventory(tmp_path, lab, host)

        def run(module: str, *words: str, **options: Any) -> dict[str, Any]:
            given = json.dumps({**lab.directories(), **options})
            said = ansible(
                "ansible", "-i", where, "host1", "-m", f"kata.hypervisor.{module}", "-a", given, *words, **settings()
            )
            found: dict[str, Any] = json.loads(said[said.index("=> ") + 3 : said.rindex("}") + 1])
            return found

        new = {"id": "web", "hypervisor": "mock", **BOOT}
        predicted = run("kata_sandbox", "--check", "--diff", **new)
        started = run("kata_sandbox", "--diff", **new)
        assert predicted["actions"] == started["actions"] and predicted["changed"] and started["changed"]
        assert run("kata_sandbox", **new)["changed"] is False
        assert run("kata_sandbox", id="web", state="paused")["actions"] == ["pause"]
        assert [one["state"] for one in run("kata_sandbox_info")["sandboxes"]] == ["paused"]
        assert run("kata_sandbox", id="web", state="started")["actions"] == ["resume"]
        assert run("kata_sandbox", id="web", state="absent")["changed"] is True
        assert run("kata_sandbox_info")["sandboxes"] == []
