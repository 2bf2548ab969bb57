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

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.guest_commands import (
    GuestCommand,
    chosen_ids,
    in_each_guest,
    run_command,
    summary,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.guest_copies import FileCopy, copy_file
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.channel import Channel
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec
from tests.support.ansible_programs import ansible
from tests.support.checkout import ROOT
from tests.support.loopback_sshd import loopback_sshd
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


def result(said: str) -> dict[str, Any]:
    """The result of an ad hoc command."""
    found: dict[str, Any] = json.loads(said[said.index("=> ") + 3 :])
    return found


def start(lab: QemuLab) -> None:
    lab.start(initrd_path=str(lab.assets.agent_initrd), wait_for={"agent": True, "timeout": PATIENCE})


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
    guest = lab.shell()
    where = SandboxSpec("any", **lab.directories())

    def command(*ids: str, **options: Any) -> dict[str, Any]:
        wanted = GuestCommand(**options)

        def work(_spec: SandboxSpec, channel: Channel) -> dict[str, Any]:
            return run_command(wanted, channel)

        return summary(in_each_guest(where, chosen_ids(where, ids), work, 16, PATIENCE), ids)

    def copy(*ids: str, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        wanted = FileCopy(**options)

        def work(spec: SandboxSpec, channel: Channel) -> dict[str, Any]:
            return copy_file(wanted, spec.id, channel, check_mode)

        return summary(in_each_guest(where, chosen_ids(where, ids), work, 16, PATIENCE), ids)

    one = command("web", argv=["printf", "%s|", "a b", "$HOME", "*"])
    assert (one["rc"], one["stdout"], one["changed"]) == (0, "a b|$HOME|*|", True)
    # One that fails does not stop the others, and a pattern names those that run.
    mixed = command("web*", shell="[ ! -e /tmp/only-here ] && touch /tmp/only-here && echo made")
    assert [one.get("stdout") for one in mixed["sandboxes"]] == ["made\n", "made\n", None]
    assert mixed["failed_ids"] == ["web-3"] and "no way into its guest" in mixed["msg"]
    assert "it is stopped" in command("off", shell="true")["msg"]
    again = command("web", shell="echo never", creates="/tmp/on*here")
    assert again["changed"] is False and "exists" in again["msg"]
    assert command("web", shell="rm /tmp/only-here", removes="/tmp/only-here")["changed"] is True
    assert command("web", shell="rm /tmp/only-here", removes="/tmp/only-here")["changed"] is False
    late = command("web", shell="echo begun; sleep 1000", timeout=2)
    assert late["kind"] == "CommandTimeout" and late["stdout"] == "begun\n"

    # Copies: the same again changes nothing, check mode is right, and nothing is left of what failed.
    page = tmp_path / "page"
    page.write_text("héllo\n")
    both = {"src": str(page), "dest": "/tmp/", "mode": "0640"}
    assert copy("web", "web-2", check_mode=True, **both)["changed"] is True
    assert guest.run("ls /tmp | grep page | wc -l") == "0"
    assert [copy("web", "web-2", **both)["changed"] for _round in range(2)] == [True, False]
    assert guest.run("cat /tmp/page; stat -c '%a %u' /tmp/page") == "héllo\n640 0"
    page.write_text("bye\n")
    changed = copy("web", "web-2", owner="1", diff=True, **both)
    assert (
        "héllo" in changed["sandboxes"][0]["diff"]["before"] and "owner 1" in changed["sandboxes"][0]["diff"]["after"]
    )
    assert guest.run("stat -c '%a %u' /tmp/page; ls /tmp | grep -c page") == "640 1\n1"
    back = {"from_guest": True, "src": "/tmp/page", "dest": f"{tmp_path}/{{id}}.page"}
    assert [copy("web*2", "web", **back)["changed"] for _round in range(2)] == [True, False]
    assert (tmp_path / "web.page").read_text() == (tmp_path / "web-2.page").read_text() == "bye\n"
    assert (tmp_path / "web.page").stat().st_mode & 0o777 == 0o600
    guest.run("mount -t tmpfs -o size=64k none /mnt")
    (tmp_path / "large").write_text("x" * 100_000)
    full = copy("web", src=str(tmp_path / "large"), dest="/mnt/file")
    assert "cannot be written" in full["msg"] and guest.run("ls /mnt | wc -l") == "0"
    assert "must be a file" in copy("web", src=str(page), dest="/dev/null")["msg"]

    # The modules, as a task has them.
    inventory = Inventory(tmp_path, lab)
    directories = lab.directories()
    asked = {
        "ids": ["web", "web-2"],
        "cmd": "cat; echo $WORD; pwd",
        "stdin": "in",
        "env": {"WORD": "x y"},
        "chdir": "/tmp",
    }
    both_answers = result(inventory.run("host1", "kata_exec", {**directories, **asked}))["sandboxes"]
    assert [one["stdout"] for one in both_answers] == ["in\nx y\n/tmp\n"] * 2
    assert "it is stopped" in inventory.run(
        "host1", "kata_exec", {**directories, "id": "off", "cmd": "true"}, "--check", code=2
    )
    secret = {**directories, "id": "web", "content": "one of a kind\n", "dest": "/tmp/page"}
    printed = inventory.run("host1", "kata_copy", secret, "-vvv")
    assert '"changed": true' in printed and "one of a kind" not in printed
    assert guest.run("cat /tmp/page") == "one of a kind"
    said = inventory.run(
        "host1", "kata_copy", {**directories, "id": "web", "src": str(page), "dest": "/tmp/"}, "--diff"
    )
    assert "-one of a kind" in said and "+bye" in said and "web:/tmp/page" in said
