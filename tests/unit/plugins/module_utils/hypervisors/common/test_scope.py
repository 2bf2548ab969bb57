# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd scope of a VMM; what systemd makes of it is tested on hosts that have one."""

from __future__ import annotations

import os
import pathlib
import re
import shutil

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.host import processes, users
from ansible_collections.kata.hypervisor.plugins.module_utils.host import systemd as supervision
from ansible_collections.kata.hypervisor.plugins.module_utils.host.spawn import spawn_detached
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.common.scope import scope_command
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import Param

USUAL = Context("web-1", "/run/kata-hypervisor/web-1", "/var/lib/kata-hypervisor/sandboxes/web-1")


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that systemd runs."""
    monkeypatch.setattr(supervision, "has_systemd", lambda: True)


def test_each_vmm_gets_a_unit_of_its_own(systemd: None) -> None:
    config = HypervisorConfig(supervisor="systemd", unit_properties=[Param("MemoryMax", "2G")])
    vmm = scope_command(USUAL, config)
    assert {"--scope", "--unit=kata-sandbox-web-1.scope", "--slice=kata.slice", "--property=MemoryMax=2G"} <= set(vmm)
    assert vmm[-1] == "--"
    helper = scope_command(USUAL, config, "fs-x")
    assert "--unit=kata-sandbox-web-1:fs-x.scope" in helper
    assert [word for word in helper if word.startswith("--property")] == [
        "--property=Before=kata-sandbox-web-1.service"
    ]


def test_systemd_run_is_given_no_number_that_has_no_name(systemd: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails for a uid that the host does not know, which those of sandboxes are."""
    user = users.own_user("web-1", users.FIRST_UID)
    words = scope_command(USUAL, HypervisorConfig(supervisor="systemd"), user=user)
    before, after = words[: words.index("--")], words[words.index("--") + 1 :]
    assert not [word for word in before if str(user.uid) in word]
    assert after == [shutil.which("setpriv"), f"--reuid={user.uid}", f"--regid={user.gid}", "--keep-groups", "--"]
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(HostError, match="setpriv must be installed"):
        scope_command(USUAL, HypervisorConfig(supervisor="systemd"), user=user)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_the_user_changes_within_the_unit(systemd: None, tmp_path: pathlib.Path) -> None:
    user = users.own_user("web-1", users.FIRST_UID)
    words = scope_command(USUAL, HypervisorConfig(supervisor="systemd"), user=user)
    late = [os.path.realpath("/bin/sh"), "-c", 'sleep 0.1; exec "$@"', "sh", *words[words.index("--") + 1 :]]
    child = spawn_detached(["/bin/sleep", "60"], str(tmp_path / "log"), wrapper=late, user=user)
    try:
        identity = processes.identify(child.pid)
        assert identity is not None and identity.executable == os.path.realpath("/bin/sleep")
        status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
        for name in ("Uid", "Gid"):
            assert re.search(rf"^{name}:(\s+{user.uid}){{4}}$", status, re.MULTILINE), status
        assert re.search(rf"^Groups:\s+{user.gid}\s*$", status, re.MULTILINE) and re.search(
            r"^CapPrm:\s+0+$", status, re.MULTILINE
        ), status
    finally:
        child.kill()
        child.wait()


def test_no_supervisor_no_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scope_command(USUAL, HypervisorConfig(supervisor="none")) == []
    monkeypatch.setattr(supervision, "has_systemd", lambda: False)
    assert scope_command(USUAL, HypervisorConfig(supervisor="auto")) == []
    with pytest.raises(HostError, match="systemd must be the host's init system"):
        scope_command(USUAL, HypervisorConfig(supervisor="systemd"))


@pytest.mark.parametrize(
    "word", [Param("-bad", "1"), Param("MemoryMax", "1\nExecStart=x"), Param("Memory Max", "1"), Param("bad", "")]
)
def test_what_is_no_property_is_refused(systemd: None, word: Param) -> None:
    with pytest.raises(ConfigError, match="must be NAME=VALUE"):
        scope_command(USUAL, HypervisorConfig(supervisor="systemd", unit_properties=[word]))
