# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks console and logs, run by a user at a real pseudo terminal, with a real guest, on the controller itself and through a real sshd."""

from __future__ import annotations

import json
import os
import pathlib
import signal
from typing import Iterator, NamedTuple

import pytest

from tests.support.ansible_programs import ansible
from tests.support.guest_assets import Assets
from tests.support.lab import removed_afterwards
from tests.support.loopback_sshd import loopback_sshd
from tests.support.qemu_lab import QemuLab
from tests.support.user_terminal import UserTerminal, user_terminal
from tests.support.waiting import wait_until

#: The guest's shell. What is typed earlier can get lost, while the shell changes the settings of its terminal.
PROMPT = "/ # "


class Place(NamedTuple):
    """A sandbox with a guest, and an inventory with its host, once as `here` and once as `remote`."""

    lab: QemuLab
    inventory: pathlib.Path

    def playbook(self, name: str, host: str, **variables: str) -> list[str]:
        """The command that runs a playbook of the collection."""
        words = [word for item in variables.items() for word in ("-e", "=".join(item))]
        return [
            "ansible-playbook",
            "-i",
            str(self.inventory),
            f"kata.hypervisor.{name}",
            "-e",
            f"target={host}",
            *words,
        ]


@pytest.fixture(scope="module", name="place")
def fixture_place(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One guest for all tests."""
    work = tmp_path_factory.mktemp("console")
    with removed_afterwards(QemuLab(assets)) as lab, loopback_sshd(work) as sshd:
        lab.start("web-1", initrd_path=str(assets.agent_initrd), memory_mb=256)
        directories = {f"kata_sandbox_{name}": path for name, path in lab.directories().items()}
        hosts = {
            "here": {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"},
            "remote": {**sshd.variables(), "ansible_control_path_dir": str(work / "cp")},
        }
        inventory = work / "hosts.json"
        inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": directories}}))
        yield Place(lab, inventory)


def ask_guest(terminal: UserTerminal) -> None:
    """Type a command that only the guest can answer."""
    # The answer is not in what is typed, which the guest's terminal prints too.
    terminal.type("echo sum=$((6 * 7)) $(uname -n) $PPID\r")
    terminal.wait_for("sum=42")
    terminal.wait_for(PROMPT)


def shows_size(terminal: UserTerminal, size: str) -> None:
    """Type a command that ends when the guest's terminal has a size."""
    terminal.type(f"until [ \"$(stty size)\" = '{size}' ]; do usleep 100000; done; echo size=$(stty size)\r")
    terminal.wait_for(f"size={size}")
    terminal.wait_for(PROMPT)


@pytest.mark.parametrize("host", ["here", "remote"])
def test_a_terminal_is_attached_to_a_guest(place: Place, host: str) -> None:
    with user_terminal(*place.playbook("console", host, sandbox="web-1")) as terminal:
        terminal.wait_for("Attached to the console of web-1")
        terminal.wait_for("Detach with Ctrl-]")
        wait_until(terminal.is_raw, "the terminal is raw")
        ask_guest(terminal)
        # Ctrl-C is for the guest, and neither for Ansible nor for ssh.
        terminal.type("stty -isig -icanon; echo wait''s; key=$(head -c 1); stty isig icanon; ")
        terminal.type("[ \"$key\" = \"$(printf '\\003')\" ] && echo got''it\r")
        terminal.wait_for("waits")
        terminal.type("\x03")
        terminal.wait_for("gotit")
        terminal.wait_for(PROMPT)
        ask_guest(terminal)
        # A tilde after a new line is no escape of ssh.
        terminal.type("\r")
        terminal.wait_for(PROMPT)
        terminal.type("~.\r")
        terminal.wait_for(PROMPT)
        ask_guest(terminal)
        # A second terminal is refused, and the first one goes on.
        with user_terminal(*place.playbook("console", host, sandbox="web-1")) as second:
            second.wait_for("another terminal or program is attached to it")
            assert second.end() == 2
            assert second.is_as_before()
        ask_guest(terminal)
        # The guest's console gets the size of the window, when it is attached and when it changes.
        for rows, columns in ((24, 80), (33, 99)):
            terminal.set_size(rows, columns)
            shows_size(terminal, f"{rows} {columns}")
        terminal.type("\x1d")
        terminal.wait_for("failed=0")
        assert terminal.end() == 0
        assert terminal.is_as_before()


@pytest.mark.parametrize("host", ["here", "remote"])
def test_a_killed_run_restores_the_terminal(place: Place, host: str) -> None:
    with user_terminal(*place.playbook("console", host, sandbox="web-1")) as terminal:
        terminal.wait_for("Detach with Ctrl-]")
        wait_until(terminal.is_raw, "the terminal is raw")
        os.kill(terminal.pid, signal.SIGKILL)
        assert terminal.end() == -signal.SIGKILL
        wait_until(terminal.is_as_before, "the terminal is restored")


def test_a_console_that_cannot_be_attached_is_an_error(place: Place) -> None:
    with user_terminal(*place.playbook("console", "here,remote", sandbox="web-1")) as terminal:
        assert terminal.end() == 2
        assert "and these have it: here, remote" in " ".join(terminal.printed.decode().split())
        assert terminal.is_as_before()


@pytest.mark.parametrize("host", ["here", "remote"])
def test_logs_are_followed_until_the_user_interrupts(place: Place, host: str) -> None:
    shell = place.lab.shell("web-1")
    words = place.playbook("logs", host, sandboxes="web-*", follow="true", lines="5")
    with user_terminal(*words) as terminal:
        terminal.wait_for("web-1 console| ")
        shell.run("printf 'red \\033[31m %s\\n' follo''wed >/dev/ttyS0")
        line = terminal.wait_for("followed")
        assert line.endswith("web-1 console| red \\x1b[31m followed")
        assert "\x1b" not in line
        terminal.type("\x03")
        assert terminal.end() != 0
        assert terminal.is_as_before()
    shell.close()


def test_logs_are_printable(place: Place) -> None:
    shell = place.lab.shell("web-1")
    shell.run("printf 'title \\033]0;evil\\007 {{ 6 * 7 }} %s\\n' e''nd >/dev/ttyS0")
    shell.close()
    printed = ansible(*place.playbook("logs", "here", sandboxes="web-1", lines="200"))
    assert r"title \\x1b]0;evil\\x07 {{ 6 * 7 }} end" in printed
    assert "\x1b" not in printed
