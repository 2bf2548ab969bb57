# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that say who a guest is."""

from __future__ import annotations

import base64
import struct

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.options.identity import (
    KEY_TYPES,
    MOST_BYTES,
    checked_hostname,
    checked_network_config,
    checked_ssh_keys,
    checked_user_data,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.shown import shown_options


def key(kind: str = "ssh-ed25519", written: str = "") -> str:
    blob = struct.pack(">I", len(kind)) + (written or kind).encode() + b"0" * 32
    return f"{kind} {base64.b64encode(blob).decode()}"


@pytest.mark.parametrize("name", ["", "a", "web-1", "WEB.example.org", "1", "a" * 63, "a" * 30 + "." + "b" * 33])
def test_host_names(name) -> None:
    assert checked_hostname(name) == name


@pytest.mark.parametrize(
    "name", ["-a", "a-", "a..b", ".a", "a.", "a_b", "a b", "a\n", "ä", "a" * 64, "a" * 32 + "." + "b" * 32, None, 1, []]
)
def test_what_is_no_host_name(name) -> None:
    with pytest.raises(ConfigError, match="must be a host name of at most 64 characters"):
        checked_hostname(name)


def test_public_keys_are_split_and_counted_once() -> None:
    options = 'from="10.0.0.0/8",command="/bin/echo a b" ' + key("ecdsa-sha2-nistp256") + " me@here"
    lines = f"# mine\n\n{key()} one\n{options}\n"
    assert checked_ssh_keys([lines, f" {key()} one "]) == [f"{key()} one", options]
    assert checked_ssh_keys([]) == []
    assert len(checked_ssh_keys([key(kind) for kind in KEY_TYPES])) == len(KEY_TYPES)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("ssh-ed25519 AAAA", "must be a list"),
        ([key(), ""], "item 2 must be a public key: it is empty"),
        ([None], "it is empty"),
        (["-----BEGIN OPENSSH PRIVATE KEY-----"], "private key"),
        (["ssh-dss AAAA"], "one of the types"),
        (["ssh-ed25519"], "the key after it"),
        (["ssh-ed25519 ???"], "base64"),
        (["ssh-ed25519 AAAA"], "cut off"),
        ([key(written="ssh-rsa")], "of another type"),
        ([key() + "\x1b[2J"], "cannot be printed"),
        ([f"{key()} {number}" for number in range(201)], "at most 200"),
    ],
)
def test_what_is_no_public_key(keys, words) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        checked_ssh_keys(keys)
    assert caught.value.option == "ssh_keys"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#!/bin/sh\ntrue\n",
        "#cloud-config",
        "#cloud-config\n",
        "#cloud-config \nusers: []",
        "#cloud-config\r\nusers: []",
        "#cloud-config # mine",
        "#cloud-config-archive\n[]",
        "#cloud-boothook\n#!/bin/sh\n",
        "#include\nfile:///etc/extra\n",
        "#include-once file:///etc/extra\n",
        "#part-handler\n",
        "## template: jinja\n#cloud-config\n",
        'Content-Type: multipart/mixed; boundary="x"\nMIME-Version: 1.0\n',
        "MIME-Version: 1.0\n",
    ],
)
def test_forms_that_cloud_init_knows(text) -> None:
    assert checked_user_data(text) == text


@pytest.mark.parametrize(
    "value",
    [
        "users: []",
        "#cloud-configuration\n",
        " #cloud-config",
        "#",
        "# cloud-config",
        "\n#!/bin/sh",
        "Content-Type: text/plain",
        "#!/bin/sh\0",
        "#!" + "x" * MOST_BYTES,
        "#!/bin/sh\n\udc80",
        None,
        ["#!/bin/sh"],
        {"a": float("nan")},
        {"a": object()},
    ],
)
def test_other_user_data_is_refused_by_name_and_not_shown(value) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_user_data(value, "vendor_data")
    assert caught.value.option == "vendor_data"
    assert caught.value.wanted is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    )
)
def test_a_dictionary_becomes_a_cloud_config_that_yaml_reads_as_the_same(value) -> None:
    config = {"write_files": value}
    text = checked_user_data(config)
    assert text.startswith("#cloud-config\n")
    assert yaml.safe_load(text) == config
    assert yaml.safe_load(checked_network_config(config)) == config


def test_an_empty_dictionary_is_nothing() -> None:
    assert (checked_user_data({}), checked_network_config({}), checked_network_config(" \n")) == ("", "", "")


@pytest.mark.parametrize("value", [None, [], 2, "version: 2\0", "x" * (MOST_BYTES + 1)])
def test_what_is_no_network_configuration(value) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_network_config(value)
    assert caught.value.option == "network_config"
    assert caught.value.wanted is None


def test_secrets_are_shown_as_digests_and_everything_else_as_it_is() -> None:
    options = {"hostname": "a", "ssh_keys": [key()], "user_data": "#!s3cret", "vendor_data": "", "vcpus": 1}
    # printf '#!s3cret' | sha256sum
    assert shown_options(options) == {**options, "user_data": "(hidden, sha256:64941515c5fa)"}
    given = {"network_config": {"b": 1, "a": 2}}
    assert shown_options(given) == shown_options({"network_config": {"a": 2, "b": 1}})
    assert shown_options(given) != shown_options({"network_config": {"a": 2, "b": 2}})
