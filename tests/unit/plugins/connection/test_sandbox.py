# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection plugin: what a host is told of its guests' users and passwords, and what an answer of the host becomes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.playbook.play_context import PlayContext

from ansible_collections.kata.hypervisor.plugins.connection import sandbox
from ansible_collections.kata.hypervisor.plugins.plugin_utils.host_program import Ended


def connection(variables: dict[str, Any], **context: Any) -> Any:
    play = PlayContext(passwords={"conn_pass": context.get("password", ""), "become_pass": context.get("sudo", "")})
    play.remote_user = context.get("remote_user", "")
    C.config.initialize_plugin_configuration_definitions(
        "connection", sandbox.PROGRAM, yaml.safe_load(sandbox.DOCUMENTATION)["options"]
    )
    plugin = sandbox.Connection(play)
    plugin._load_name = sandbox.PROGRAM
    plugin.set_options(var_options={"kata_sandbox_id": "web", **variables})
    return plugin


HOST = {"inventory_hostname": "host1", "ansible_connection": "ssh", "ansible_host": "host1", "ansible_become": True}


def test_what_the_inventory_says_of_a_guest_is_not_sent_to_its_host() -> None:
    guest = {
        "kata_sandbox_host_vars": HOST,
        "ansible_password": "of the guest",
        "ansible_become_password": "of the guest",
    }
    host = connection(guest, remote_user="debian", password="of the guest", sudo="of the guest")
    programs = host._programs()._host
    assert programs.plugin.get_option("remote_user") is None
    assert not programs.plugin.get_option("password")
    assert not programs._become.get_option("become_pass")


def test_the_passwords_that_the_command_line_asks_for_are_those_of_the_host() -> None:
    host = connection({"kata_sandbox_host_vars": HOST}, password="of the host", sudo="to become root")
    programs = host._programs()._host
    assert programs.plugin.get_option("password") == "of the host"
    assert programs._become.get_option("become_pass") == "to become root"


class Answering:
    """Programs of a host that end as a test says."""

    def __init__(self, ending: dict[str, Any], stdout: bytes = b"", stderr: bytes = b"") -> None:
        self.ended = Ended(ending, stdout, stderr)

    def run(self, _program: str, _request: dict[str, Any], _stdin: bytes) -> Ended:
        return self.ended


def test_what_programs_of_the_host_print_is_not_taken_for_the_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = connection({})
    noise = b"sudo: unable to resolve host host1\n"
    programs = Answering({"code": 0, "errors": "of the guest"}, b"out", noise)
    monkeypatch.setattr(plugin, "_programs", lambda: programs)
    assert plugin._run("true", b"", 100) == (0, b"out", b"of the guest")


@pytest.mark.parametrize(("kind", "unreachable"), [("ConfigError", False), ("AgentError", True)])
def test_a_command_that_no_guest_can_run_does_not_make_it_unreachable(
    monkeypatch: pytest.MonkeyPatch, kind: str, unreachable: bool
) -> None:
    plugin = connection({})
    programs = Answering({"error": {"kind": kind, "msg": "a command must have at most 5 bytes"}})
    monkeypatch.setattr(plugin, "_programs", lambda: programs)
    with pytest.raises(AnsibleError, match="at most 5 bytes") as raised:
        plugin._run("true", b"")
    assert isinstance(raised.value, AnsibleConnectionFailure) == unreachable
