# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection plugin, kata_exec and kata_copy as their users meet them, with real guests, and with hosts that are reached in different ways."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.support.ansible_programs import ansible
from tests.support.checkout import ROOT
from tests.support.loopback_sshd import loopback_sshd
from tests.support.packages_image import packages_image
from tests.support.qemu_lab import QemuLab
from tests.support.waiting import PATIENCE, wait_until

CONFIG = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}


class Inventory:
    """An inventory with a host and the guests of its sandboxes."""

    def __init__(self, work: pathlib.Path, lab: QemuLab, **host: Any) -> None:
        directories = {
            "kata_sandbox_state_dir": str(lab.root / "state"),
            "kata_sandbox_run_dir": str(lab.root / "run"),
        }
        guest = {
            "ansible_connection": "kata.hypervisor.sandbox",
            "kata_sandbox_id": "web",
            "kata_sandbox_host": "host1",
            "kata_sandbox_host_vars": "{{ hostvars[kata_sandbox_host] | kata.hypervisor.connection_vars }}",
            "kata_sandbox_connection_timeout": int(PATIENCE),
            **directories,
        }
        local = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
        hosts = {"host1": host or local, "guest": guest}
        self.path = work / "inventory.yml"
        self.path.write_text(yaml.safe_dump({"all": {"hosts": hosts}}))

    def run(self, host: str, module: str, arguments: Any = "", *words: str, code: int = 0) -> str:
        given = arguments if isinstance(arguments, str) else json.dumps(arguments)
        more = ["-a", given] if given else []
        return ansible("ansible", "-i", str(self.path), host, "-m", module, *more, *words, code=code, **CONFIG)

    def play(self, *tasks: dict[str, Any], code: int = 0, **play: Any) -> str:
        book = self.path.parent / "play.yml"
        book.write_text(yaml.safe_dump([{"hosts": "guest", "gather_facts": False, **play, "tasks": list(tasks)}]))
        return ansible("ansible-playbook", "-i", str(self.path), str(book), code=code, **CONFIG)


def result(said: str) -> dict[str, Any]:
    """The result of an ad hoc command."""
    found: dict[str, Any] = json.loads(said[said.index("=> ") + 3 :])
    return found


def start(lab: QemuLab) -> None:
    lab.start(initrd_path=str(lab.assets.agent_initrd), wait_for={"agent": True, "timeout": PATIENCE})


def directories(lab: QemuLab) -> dict[str, str]:
    return {"state_dir": str(lab.root / "state"), "run_dir": str(lab.root / "run")}


@pytest.mark.parametrize("kind", ["ssh", "paramiko_ssh"])
def test_a_guest_without_python_through_the_connection_of_its_host(
    lab: QemuLab, tmp_path: pathlib.Path, kind: str
) -> None:
    start(lab)
    guest = lab.shell()
    filling = "# " + random.Random(3).randbytes(1_500_000).hex()
    (tmp_path / "script").write_text(
        f'#!/bin/sh\necho "$1 as $(id -u)" $(sha256sum <"$0"); echo problem >&2; exit 4\n{filling}\n'
    )
    digest = hashlib.sha256((tmp_path / "script").read_bytes()).hexdigest()
    work = tmp_path / "sshd"
    work.mkdir()
    with loopback_sshd(work) as sshd:
        variables = {**sshd.variables(), "ansible_connection": kind, "ansible_paramiko_host_key_checking": False}
        inventory = Inventory(tmp_path, lab, **variables)
        said = inventory.run("guest", "raw", "uname -r; exit 3", code=2)
        assert guest.run("uname -r") in said and "rc=3" in said
        said = inventory.run("guest", "script", f"{tmp_path}/script hello", code=2)
        assert f'"stdout": "hello as 0 {digest} -\\n"' in said
        assert '"rc": 4' in said and '"stderr": "problem\\n"' in said
    assert guest.run("ls /tmp | grep ansible | wc -l") == "0"


def test_an_interrupted_task_leaves_nothing_in_the_guest(lab: QemuLab, tmp_path: pathlib.Path) -> None:
    start(lab)
    inventory = Inventory(tmp_path, lab)
    guest = lab.shell()
    words = [str(pathlib.Path(sys.executable).with_name("ansible")), "-i", str(inventory.path), "guest", "-m", "raw"]
    command = [*words, "-a", "sh -c 'sleep 12345; :'"]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    running = "ps | grep '[s]leep 12345' | wc -l"
    wait_until(lambda: guest.run(running) != "0", "the command runs")
    # A terminal interrupts the whole group.
    os.killpg(process.pid, signal.SIGINT)
    process.wait()
    wait_until(lambda: guest.run(running) == "0", "the command was ended")
    assert "still here" in inventory.run("guest", "raw", "echo still here")
    # Only the loop that waits for the next command has files.
    assert guest.run("ls /run/kata-channel | grep '[.]out' | wc -l") == "1"


def test_commands_and_files_in_many_guests(lab: QemuLab, tmp_path: pathlib.Path) -> None:
    start(lab)
    lab.start("web-2", initrd_path=str(lab.assets.agent_initrd), wait_for={"agent": True, "timeout": PATIENCE})
    mock = {"hypervisor": "mock", "kernel_path": str(lab.assets.kernel), "initrd_path": str(lab.assets.initrd)}
    lab.run("web-3", state="started", **mock)
    lab.run("off", state="stopped", **mock)
    inventory = Inventory(tmp_path, lab)
    guest = lab.shell()
    where = directories(lab)

    def ask(module: str, code: int = 0, *words: str, **options: Any) -> dict[str, Any]:
        return result(inventory.run("host1", module, {**where, **options}, *words, code=code))

    one = ask("kata_exec", id="web", argv=["printf", "%s|", "a b", "$HOME", "*"])
    assert (one["rc"], one["stdout"], one["changed"]) == (0, "a b|$HOME|*|", True)
    both = ask(
        "kata_exec",
        ids=["web", "web-2"],
        cmd="cat; echo $WORD; pwd; echo no >&2",
        stdin="in",
        env={"WORD": "x y"},
        chdir="/tmp",
    )
    assert [one["stdout"] for one in both["sandboxes"]] == ["in\nx y\n/tmp\n"] * 2
    assert [one["stderr"] for one in both["sandboxes"]] == ["no\n"] * 2

    # One that fails does not stop the others, and a pattern names those that run.
    mixed = ask("kata_exec", 2, ids=["web*"], cmd="[ ! -e /tmp/only-here ] && touch /tmp/only-here && echo made")
    assert [one.get("stdout") for one in mixed["sandboxes"]] == ["made\n", "made\n", None]
    assert mixed["failed_ids"] == ["web-3"] and "no way into its guest" in mixed["msg"]
    assert "it is stopped" in ask("kata_exec", 2, id="off", cmd="true")["msg"]
    assert "it is stopped" in ask("kata_exec", 2, "--check", id="off", cmd="true")["msg"]
    again = ask("kata_exec", id="web", cmd="echo never", creates="/tmp/on*here")
    assert again["changed"] is False and "exists" in again["msg"]
    assert ask("kata_exec", id="web", cmd="rm /tmp/only-here", removes="/tmp/only-here")["changed"] is True
    assert ask("kata_exec", id="web", cmd="rm /tmp/only-here", removes="/tmp/only-here")["changed"] is False
    late = ask("kata_exec", 2, id="web", cmd="echo begun; sleep 1000", timeout=2)
    assert late["kind"] == "DeadlineExceeded" and late["stdout"] == "begun\n"

    # Copies: the same again changes nothing, check mode tells the truth, and nothing is left of what failed.
    page = {"ids": ["web", "web-2"], "content": "héllo\n", "dest": "/tmp/page", "mode": "0640"}
    foretold = ask("kata_copy", 0, "--check", "--diff", **page)
    assert foretold["changed"] is True and guest.run("ls /tmp/page 2>&1 | grep -c 'No such'") == "1"
    assert [ask("kata_copy", **page)["changed"] for _round in range(2)] == [True, False]
    assert guest.run("cat /tmp/page; stat -c '%a %u' /tmp/page") == "héllo\n640 0"
    said = inventory.run("host1", "kata_copy", {**where, **page, "content": "bye\n", "owner": "1"}, "--diff")
    assert "-héllo" in said and "+bye" in said and "web-2:/tmp/page" in said
    assert guest.run("stat -c '%a %u' /tmp/page; ls /tmp | grep -c page") == "640 1\n1"
    back = {"ids": ["web*2", "web"], "from_guest": True, "src": "/tmp/page", "dest": f"{tmp_path}/{{id}}.page"}
    assert [ask("kata_copy", **back)["changed"] for _round in range(2)] == [True, False]
    assert (tmp_path / "web.page").read_text() == (tmp_path / "web-2.page").read_text() == "bye\n"
    assert (tmp_path / "web.page").stat().st_mode & 0o777 == 0o600
    guest.run("mount -t tmpfs -o size=64k none /mnt")
    full = ask("kata_copy", 2, id="web", content="x" * 100_000, dest="/mnt/file")
    assert "cannot be written" in full["msg"] and guest.run("ls /mnt | wc -l") == "0"
    assert "must be a file" in ask("kata_copy", 2, id="web", content="x", dest="/dev/null")["msg"]


#: A role that knows nothing of sandboxes: a package, a template, a service, a handler.
ROLE: list[dict[str, Any]] = [
    {"ansible.builtin.apt": {"deb": "/root/greeter.deb"}},
    {
        "ansible.builtin.template": {"src": "greeter.conf.j2", "dest": "/etc/greeter.conf", "mode": "0644"},
        "notify": "Restart the greeter",
    },
    {"ansible.builtin.systemd_service": {"name": "greeter", "enabled": True, "state": "started"}},
]
SERVICE = """[Unit]
Description=Greets
[Service]
ExecStart=/bin/sh -c 'cat /etc/greeter.conf >/run/greeting; exec sleep infinity'
[Install]
WantedBy=multi-user.target
"""


def package(work: pathlib.Path) -> pathlib.Path:
    """A package of Debian's kind with a service."""
    tree = work / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: greeter\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: greets\n"
    )
    (tree / "lib/systemd/system").mkdir(parents=True)
    (tree / "lib/systemd/system/greeter.service").write_text(SERVICE)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(tree), str(work / "greeter.deb")], check=True)
    return work / "greeter.deb"


def test_a_role_that_knows_nothing_of_sandboxes(lab: QemuLab, tmp_path: pathlib.Path) -> None:
    lab.start(
        initrd_path="",
        image_path=str(packages_image()),
        initramfs_path=str(lab.assets.initrd),
        root_disk_mb=1024,
        memory_mb=512,
        hostname="greeter-1",
        kernel_params=[],
        wait_for={"agent": True, "timeout": PATIENCE},
    )
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/greeter.conf.j2").write_text(
        "hello from {{ ansible_facts.hostname }}, a {{ ansible_facts.distribution }}\n"
    )
    inventory = Inventory(tmp_path, lab)
    copy = {"ansible.builtin.copy": {"src": str(package(tmp_path)), "dest": "/root/greeter.deb", "mode": "0600"}}
    handlers = [
        {"name": "Restart the greeter", "ansible.builtin.systemd_service": {"name": "greeter", "state": "restarted"}}
    ]
    reboot = [
        {"ansible.builtin.command": "cat /proc/sys/kernel/random/boot_id", "register": "before", "changed_when": False},
        {"ansible.builtin.reboot": {"reboot_timeout": int(PATIENCE)}},
        {"ansible.builtin.command": "cat /proc/sys/kernel/random/boot_id /run/greeting", "register": "after"},
        {
            "ansible.builtin.assert": {
                "that": ["before.stdout not in after.stdout", "'hello from greeter-1, a Debian' in after.stdout"]
            }
        },
        {
            "ansible.builtin.command": "id -un",
            "become": True,
            "become_user": "nobody",
            "register": "who",
            "changed_when": False,
        },
        {"ansible.builtin.assert": {"that": "who.stdout == 'nobody'"}},
        {"ansible.builtin.command": "sleep 1", "async": 600, "poll": 1},
    ]
    said = inventory.play(
        copy, *ROLE, {"ansible.builtin.meta": "flush_handlers"}, *reboot, gather_facts=True, handlers=handlers
    )
    assert "RUNNING HANDLER [Restart the greeter]" in said
    said = inventory.play(copy, *ROLE, gather_facts=True, handlers=handlers)
    assert "changed=0" in said
