# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter jump_args: arguments of ssh that lead through a host."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kata.hypervisor.plugins.filter.jump_args import jump_args


def proxy_command(variables: dict[str, Any]) -> str:
    """The command that the shell of ssh runs, with the address of a guest."""
    option, value = shlex.split(jump_args(variables))
    assert option == "-o"
    name, _equals, command = value.partition("=")
    assert name == "ProxyCommand"
    return command.replace("%h", "10.0.0.2").replace("%p", "22").replace("%%", "%")


@pytest.mark.parametrize("connection", ["local", "ansible.builtin.local"])
def test_the_controller_itself_needs_none(connection: str) -> None:
    assert jump_args({"inventory_hostname": "here", "ansible_connection": connection}) == ""


def test_a_host_without_settings() -> None:
    assert proxy_command({"inventory_hostname": "kvm-1"}) == "ssh -W [10.0.0.2]:22 -- kvm-1"


def test_the_settings_of_a_host() -> None:
    variables = {
        "inventory_hostname": "kvm-1",
        "ansible_connection": "paramiko",
        "ansible_host": "192.0.2.7",
        "ansible_port": 2200,
        "ansible_user": "admin",
        "ansible_private_key_file": "/keys/my key",
        "ansible_ssh_common_args": "-o UserKnownHostsFile='/a b/%h'",
        "ansible_ssh_extra_args": "-v",
    }
    assert shlex.split(proxy_command({**variables, "ansible_ssh_common_args": "-o 'UserKnownHostsFile=/a b/c%d'"})) == [
        "ssh",
        "-p",
        "2200",
        "-l",
        "admin",
        "-i",
        "/keys/my key",
        "-o",
        "UserKnownHostsFile=/a b/c%d",
        "-v",
        "-W",
        "[10.0.0.2]:22",
        "--",
        "192.0.2.7",
    ]


def test_values_are_words_for_the_shell() -> None:
    command = proxy_command(
        {"inventory_hostname": "kvm-1", "ansible_user": "a; touch /tmp/x", "ansible_host": "-oA=$(id)"}
    )
    assert shlex.split(command) == ["ssh", "-l", "a; touch /tmp/x", "-W", "[10.0.0.2]:22", "--", "-oA=$(id)"]


def test_another_connection_is_an_error() -> None:
    with pytest.raises(AnsibleFilterError, match=r"host box must be ssh or local .* and it is community.docker.docker"):
        jump_args({"inventory_hostname": "box", "ansible_connection": "community.docker.docker"})
