# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example of docs/molecule.md: a role that knows nothing of sandboxes, tested by its molecule scenario in a guest with systemd.

What the role does is what roles do: a package, a template, a service, a handler. The scenario restarts the guest.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.support.ansible_programs import ansible
from tests.support.checkout import ROOT
from tests.support.guest_assets import Assets
from tests.support.packages_image import packages_image
from tests.support.user_terminal import user_terminal

ROLE_TASKS: list[dict[str, Any]] = [
    {
        "name": "Copy the package",
        "ansible.builtin.copy": {"src": "greeter.deb", "dest": "/root/greeter.deb", "mode": "0600"},
    },
    {"name": "Install the package", "ansible.builtin.apt": {"deb": "/root/greeter.deb"}},
    {
        "name": "Write the configuration",
        "ansible.builtin.template": {"src": "greeter.conf.j2", "dest": "/etc/greeter.conf", "mode": "0644"},
        "notify": "Restart the greeter",
    },
    {
        "name": "Start the service",
        "ansible.builtin.systemd_service": {"name": "greeter", "enabled": True, "state": "started"},
    },
]
HANDLERS = [
    {"name": "Restart the greeter", "ansible.builtin.systemd_service": {"name": "greeter", "state": "restarted"}}
]
TEMPLATE = "hello from {{ ansible_facts.hostname }}, a {{ ansible_facts.distribution }}\n"
SERVICE = """[Unit]
Description=Greets
[Service]
ExecStart=/bin/sh -c 'cat /etc/greeter.conf >/run/greeting; exec sleep infinity'
[Install]
WantedBy=multi-user.target
"""
CONTROL = (
    "Package: greeter\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: greets\n"
)
BOOT_ID = {"ansible.builtin.command": "cat /proc/sys/kernel/random/boot_id /run/greeting", "changed_when": False}
VERIFY: list[dict[str, Any]] = [
    {**BOOT_ID, "register": "before"},
    {"ansible.builtin.reboot": {"reboot_timeout": 1200}},
    {**BOOT_ID, "register": "after"},
    {
        "ansible.builtin.assert": {
            "that": [
                "after.stdout_lines[1] == 'hello from greeter-1, a Debian'",
                "after.stdout_lines[0] != before.stdout_lines[0]",
            ]
        }
    },
    {"ansible.builtin.command": "id -un", "become": True, "become_user": "nobody", "register": "who"},
    {"ansible.builtin.command": "sleep 1", "async": 600, "poll": 1},
    {"ansible.builtin.fetch": {"src": "/root/greeter.deb", "dest": "{{ lookup('env', 'FETCHED') }}", "flat": True}},
    {"ansible.builtin.assert": {"that": ["who.stdout == 'nobody'", "inventory_hostname in groups.greeters"]}},
]


def package(work: pathlib.Path, to: pathlib.Path) -> None:
    """A package of Debian's kind with a service."""
    (work / "DEBIAN").mkdir(parents=True)
    (work / "DEBIAN/control").write_text(CONTROL)
    (work / "lib/systemd/system").mkdir(parents=True)
    (work / "lib/systemd/system/greeter.service").write_text(SERVICE)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(work), str(to)], check=True, capture_output=True)


def write(path: pathlib.Path, content: Any) -> None:
    """Write a file of a project."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))


def scenario(project: pathlib.Path, platforms: list[dict[str, Any]]) -> None:
    """The files of a scenario, as docs/molecule.md shows them."""
    write(project / "ansible.cfg", "[defaults]\n")
    page = (ROOT / "docs/molecule.md").read_text()
    files = dict(re.findall(r"```yaml\n# (molecule/default/\S+)\n(.*?)```", page, re.DOTALL))
    for name in ("create", "destroy", "converge"):
        write(project / f"molecule/default/{name}.yml", files[f"molecule/default/{name}.yml"])
    config = yaml.safe_load(files["molecule/default/molecule.yml"])
    assert {"name", "groups", "sandbox"} <= set(config["platforms"][0])
    write(project / "molecule/default/molecule.yml", {**config, "platforms": platforms})


def environment(project: pathlib.Path) -> dict[str, str]:
    return {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_HOME": str(project / ".ansible"),
        "ANSIBLE_CONFIG": str(project / "ansible.cfg"),
        "ANSIBLE_PIPELINING": "true",
        "XDG_CACHE_HOME": str(project / ".cache"),
        "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}",
        "NO_COLOR": "1",
        "MOLECULE_NO_COMMAND_BORDERS": "1",
        "FETCHED": str(project / "fetched.deb"),
    }


def sandboxes(project: pathlib.Path) -> str:
    """What the host has."""
    return ansible(
        "ansible", "localhost", "-m", "kata.hypervisor.kata_sandbox_info", "-a", "facts=state", **environment(project)
    )


@pytest.mark.long
def test_a_role_that_knows_nothing_of_sandboxes(assets: Assets, tmp_path: pathlib.Path) -> None:
    project = tmp_path / "greeter"
    write(
        project / "meta/main.yml",
        {
            "galaxy_info": {
                "role_name": "greeter",
                "namespace": "example",
                "author": "nobody",
                "description": "greets",
                "license": "MIT",
                "min_ansible_version": "2.17",
            }
        },
    )
    write(project / "tasks/main.yml", ROLE_TASKS)
    write(project / "handlers/main.yml", HANDLERS)
    write(project / "templates/greeter.conf.j2", TEMPLATE)
    (project / "files").mkdir()
    package(tmp_path / "tree", project / "files/greeter.deb")
    sandbox = {
        "image": str(packages_image()),
        "kernel_path": str(assets.kernel),
        "initramfs_path": str(assets.initrd),
        "root_disk_mb": 1024,
        "memory_mb": 512,
        "accelerator": "tcg",
        "volumes": [{"name": "data", "size_mb": 64}],
    }
    platform = {"name": "greeter-1", "groups": ["greeters"], "sandbox": sandbox}
    scenario(project, [platform])
    write(
        project / "molecule/default/verify.yml",
        [{"name": "Verify", "hosts": "greeters", "gather_facts": False, "tasks": VERIFY}],
    )
    env = environment(project)

    def molecule(*words: str, code: int = 0) -> str:
        return ansible("molecule", *words, directory=project, code=code, **env)

    try:
        said = molecule("converge")
        assert "RUNNING HANDLER [" in said and "Restart the greeter" in said
        molecule("verify")
        assert (project / "fetched.deb").read_bytes() == (project / "files/greeter.deb").read_bytes()
        with user_terminal("molecule", "login", directory=project, **env) as terminal:
            terminal.wait_for("Attached")
            terminal.type("echo on=$((40 + 2)) $(hostname)\r")
            terminal.wait_for("on=42 greeter-1")
            terminal.type("\x1d")
            assert terminal.end() == 0
    finally:
        molecule("destroy")
    assert '"sandboxes": []' in sandboxes(project)
    assert not (project / "kata_sandboxes.yml").exists()


def test_nothing_is_left_of_a_run_that_failed(assets: Assets, tmp_path: pathlib.Path) -> None:
    project = tmp_path / "broken"
    write(project / "tasks/main.yml", [])
    mock = {"hypervisor": "mock", "kernel_path": str(assets.kernel), "network": "none", "wait_for": "running"}
    good = {"name": "good", "sandbox": {"initrd_path": str(assets.initrd), **mock}}
    scenario(project, [good, {"name": "bad", "sandbox": {"image": "no-such-image", **mock}}])
    said = ansible("molecule", "test", directory=project, code=2, **environment(project))
    assert "no-such-image" in said and re.search(r'"failed_ids": \["bad-[0-9a-f]{8}"\]', said)
    assert '"sandboxes": []' in sandboxes(project)
