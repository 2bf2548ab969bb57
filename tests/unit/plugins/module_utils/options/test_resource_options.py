# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of what the host gives a sandbox: each by itself, and together."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_spec, take_params
from ansible_collections.kata.hypervisor.plugins.module_utils.options.resource_options import (
    RESOURCE_OPTIONS,
    check_together,
    checked_resource,
    host_name,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.shown import shown_value
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import make_config, options_from, zero_of

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA8hQ2w6Dq6gV1L2XN6E3VZz1o2yB8pJvWc1uO3sF2aB me@example.com"


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("root_disk_mb", 10240, 10240),
        ("network", "none", ""),
        ("network", "default", "default"),
        ("network", "user", "user"),
        ("address", "10.0.0.7", "10.0.0.7"),
        ("address6", "FD00::0:7", "fd00::7"),
        ("ports", ["8080:80/tcp", "127.0.0.1:2222:22"], ["8080:80", "127.0.0.1:2222:22"]),
        ("egress", "open", ""),
        ("egress", "none", "none"),
        ("egress", [], "none"),
        ("egress", ["192.0.2.1:443"], ["192.0.2.1/32:443/tcp"]),
        ("isolated", True, True),
        ("hostname", "web-1.example.com", "web-1.example.com"),
        ("user_data", "#!/bin/sh\necho\n", "#!/bin/sh\necho\n"),
        ("guest_agent", "install", "install"),
        ("guest_agent", "none", ""),
        ("user_data", {"packages": ["nginx"]}, '#cloud-config\n{"packages": ["nginx"]}\n'),
        (
            "volumes",
            [{"name": "data", "size_mb": 5}],
            [{"name": "data", "size_mb": 5, "read_only": False, "keep": True}],
        ),
        ("volumes", [{"name": "a.b"}], [{"name": "a.b", "read_only": False, "keep": True}]),
        ("volumes", [{"name": "a", "size_mb": None}], [{"name": "a", "read_only": False, "keep": True}]),
    ],
)
def test_a_value_has_one_spelling(name: str, given: Any, kept: Any) -> None:
    assert checked_resource(name, given) == kept
    # What is recorded is accepted again.
    assert checked_resource(name, kept) == kept


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("root_disk_mb", -1, "must be a number of MiB"),
        ("root_disk_mb", True, "must be a number of MiB"),
        ("network", "Has Blanks", "must be the name of a network"),
        ("address", "10.0.0.300", "must be an IPv4 address"),
        ("address", "fd00::1", "must be an IPv4 address"),
        ("address6", "10.0.0.1", "must be an IPv6 address"),
        ("ports", "8080:80", "must be a list"),
        ("ports", ["80"], "must be a published port"),
        ("ports", ["133342"], "must be a published port"),
        ("egress", ["example.com"], "must be a network in CIDR notation"),
        ("isolated", "yes", "must be true or false"),
        ("hostname", "-web", "must be a host name"),
        ("guest_agent", True, "must be install or none"),
        ("ssh_keys", ["nonsense"], "item 1 must be a public key"),
        ("user_data", "echo", "must begin in a form that cloud-init knows"),
        ("volumes", [{"size_mb": 5}], "the name of a volume must be"),
        ("volumes", [{"name": "a/b"}], "the name of a volume must be"),
        ("volumes", [{"name": "n" * 29}], "the name of a volume must be"),
        ("volumes", [{"name": "a", "size_mb": 0}], "size_mb of volume a must be at least 1"),
        ("volumes", [{"name": "a"}, {"name": "a"}], "must not list the same volume twice"),
        ("volumes", [{"name": "a", "filesystem": "ntfs"}], "filesystem of volume a must be one of"),
        ("volumes", [{"name": "a", "colour": "red"}], "must have none but the suboptions"),
    ],
)
def test_a_value_that_cannot_be_used(name: str, given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        checked_resource(name, given)
    assert refused.value.option == name


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"ports": ["8080:80"]}, "ports"),
        ({"address": "10.0.0.7"}, "address"),
        ({"isolated": True}, "isolated"),
        ({"network": "user", "address": "10.0.0.7"}, "address"),
        ({"network": "user", "egress": ["10.0.0.0/8"]}, "egress"),
        ({"network": "user", "ports": ["[::1]:8080:80"]}, "ports"),
        ({"root_disk_mb": 100}, "root_disk_mb"),
        ({"guest_agent": "install", "vendor_data": "#cloud-config\n{}"}, "guest_agent"),
        ({"root_disk_mb": 100, "image_path": "/i", "template": "base"}, "root_disk_mb"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], option: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_together(options)
    assert refused.value.option == option


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"network": "default", "address": "10.0.0.7", "ports": ["8080:80"], "egress": ["10.0.0.0/8"], "isolated": True},
        {"network": "user", "ports": ["8080:80"], "egress": "none"},
        {"root_disk_mb": 100, "image_path": "debian-12"},
        # Cleared options say nothing.
        {"ports": [], "address": "", "isolated": False},
    ],
)
def test_options_that_go_together(options: dict[str, Any]) -> None:
    check_together(options)


@pytest.mark.parametrize(
    ("sandbox", "name"),
    [("web-1", "web-1"), ("web_1.example", "web-1-example"), ("_", "sandbox"), ("x" * 64, "x" * 63)],
)
def test_a_host_name_follows_from_the_id(sandbox: str, name: str) -> None:
    assert host_name({}, sandbox) == name
    assert host_name({"hostname": "mail"}, sandbox) == "mail"


def test_these_options_are_no_part_of_the_vms_configuration() -> None:
    assert {name: zero_of(name) for name in RESOURCE_OPTIONS}["volumes"] == []
    config = make_config({"network": "default", "root_disk_mb": 100, "kernel_path": "/k"})
    assert not set(options_from(config)) & set(RESOURCE_OPTIONS)


def test_an_image_can_be_a_name_and_a_kernel_cannot() -> None:
    assert parse_spec({"id": "web", "image_path": "debian-12"}).options == {"image_path": "debian-12"}
    for wrong in ("images/debian", "../x", "debian 12"):
        with pytest.raises(ConfigError, match="must be an absolute path"):
            parse_spec({"id": "web", "image_path": wrong})
    with pytest.raises(ConfigError, match="must be an absolute path"):
        parse_spec({"id": "web", "kernel_path": "debian-12"})


class FakeModule:
    """What `take_params` needs of an AnsibleModule."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.no_log_values = {"secret-word", "web"}


def test_results_show_no_secrets_and_hide_nothing_else() -> None:
    items = [{"id": "web", "user_data": "#!/bin/sh\necho secret-word"}]
    module = FakeModule({"id": "web", "user_data": {"password": "secret-word"}, "sandboxes": items})
    params = take_params(module)
    assert params["user_data"] == {"password": "secret-word"}
    assert params["sandboxes"][0]["user_data"].endswith("secret-word")
    assert "secret-word" not in str(module.params)
    assert module.params["id"] == "web"
    assert not module.no_log_values


def test_an_empty_list_of_destinations_allows_none() -> None:
    """Only the empty text clears the option: a list that a filter has emptied must not open everything."""
    assert checked_resource("egress", []) == "none"
    assert checked_resource("egress", "") == checked_resource("egress", "open") == ""


def test_a_sandbox_can_have_every_volume_that_kata_volume_creates() -> None:
    assert checked_resource("volumes", [{"name": "data.2026"}])[0]["name"] == "data.2026"


def test_a_change_of_egress_shows_what_is_allowed() -> None:
    assert (shown_value("egress", ""), shown_value("egress", "none")) == ("open", "none")
