# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller refuses what cloud-init could not read, by option and line, and shows nothing of it."""

from __future__ import annotations

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.plugin_utils.cloud_config import check_identity

MIME = """\
Content-Type: multipart/mixed; boundary="b"
MIME-Version: 1.0

--b
Content-Type: text/cloud-config; charset="utf-8"
Content-Disposition: attachment; filename="first.cfg"

packages: [nginx
--b--
"""


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"user_data": None},
        {"user_data": ""},
        {"user_data": "#cloud-config\n"},
        {"user_data": "#cloud-config\nusers:\n  - default\n"},
        {"user_data": {"users": ["default"], "chpasswd": {"expire": False}}},
        {"user_data": "#!/bin/sh\n: [ {\n"},
        {"user_data": "## template: jinja\n#cloud-config\n{% if x %}\n"},
        {"user_data": "#cloud-config-archive\n- type: text/cloud-config\n  content: ''\n"},
        {"user_data": MIME.replace("[nginx", "[nginx]")},
        {"network_config": "version: 2\nethernets: {}\n"},
        {"network_config": {"network": {"version": 1, "config": []}}},
        {"network_config": "network: {config: disabled}\n"},
        {"hostname": "web-1.example.org", "ssh_keys": []},
    ],
)
def test_what_cloud_init_takes_is_accepted(options) -> None:
    check_identity(options, "web-1")


@pytest.mark.parametrize(
    ("options", "option", "line"),
    [
        ({"user_data": "#cloud-config\npassword: s3cret\nusers: [\n"}, "user_data", "line 4"),
        ({"user_data": "#cloud-config\npassword: s3cret\n\tusers: x\n"}, "user_data", "line 3"),
        ({"user_data": "#cloud-config\npassword: s3cret\x01\n"}, "user_data", "line 2"),
        ({"user_data": "#cloud-config\n- s3cret\n"}, "user_data", ""),
        ({"user_data": "#cloud-config-archive\npassword: s3cret\n"}, "user_data", ""),
        ({"user_data": "password: s3cret\n"}, "user_data", ""),
        ({"user_data": MIME}, "user_data", "first.cfg"),
        ({"user_data": {"s3cret": object()}}, "user_data", ""),
        ({"vendor_data": "#cloud-config\ns3cret: {\n"}, "vendor_data", "line 3"),
        ({"network_config": "ethernets: {s3cret: {}}\n"}, "network_config", ""),
        ({"network_config": "version: 3\ns3cret: 1\n"}, "network_config", ""),
        ({"network_config": "version: 2\ns3cret: [\n"}, "network_config", "line 3"),
        ({"network_config": ["s3cret"]}, "network_config", ""),
        ({"ssh_keys": ["-----BEGIN OPENSSH PRIVATE KEY-----\ns3cret"]}, "ssh_keys", "item 1"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_secret_is_shown(options, option, line) -> None:
    with pytest.raises(ConfigError) as caught:
        check_identity(options, "web-1")
    assert (caught.value.option, caught.value.sandbox) == (option, "web-1")
    assert line in str(caught.value)
    assert "s3cret" not in str(caught.value) + repr(caught.value.as_result())
