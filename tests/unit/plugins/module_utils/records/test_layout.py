# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids, directories and socket paths."""

from __future__ import annotations

import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.network import tap_name
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import (
    SandboxLayout,
    clean_path,
    same_path,
    socket_path,
    unit_stem,
    validate_id,
)

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
GOOD_IDS = st.text(ALPHABET, min_size=1, max_size=64).filter(lambda text: text[0] not in ".-")


@given(GOOD_IDS)
def test_an_id_stays_inside_the_roots(id_):
    layout = SandboxLayout(validate_id(id_), "/state", "/run")
    assert os.path.dirname(layout.run_dir) == "/run"
    assert os.path.dirname(layout.state_dir) == "/state/sandboxes"
    assert os.path.normpath(layout.run_dir) == layout.run_dir
    assert os.path.dirname(layout.record_path) == os.path.dirname(layout.lock_path) == layout.state_dir


@pytest.mark.parametrize(
    ("spelled", "path"),
    [
        ("/", "/"),
        ("/..", "/"),
        ("/a/../../b/", "/b"),
        ("//a/./b//..//c", "/a/c"),
        ("/a/b/../../..", "/"),
        ("/a/..b", "/a/..b"),
    ],
)
def test_a_path_has_one_spelling(spelled: str, path: str) -> None:
    assert clean_path(spelled, "kernel_path") == path and same_path(spelled, path)


def test_a_way_back_from_behind_a_link_stays(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert clean_path(f"{tmp_path}/link/../k", "kernel_path") == f"{tmp_path}/link/../k"
    assert clean_path(f"{tmp_path}/link/../../k", "kernel_path") == f"{tmp_path}/link/../../k"
    assert clean_path(f"{tmp_path}/real/../k", "kernel_path") == f"{tmp_path}/k"


@given(st.text())
def test_what_is_no_id_is_refused(text):
    good = 1 <= len(text) <= 64 and text[0] not in ".-" and all(character in ALPHABET for character in text)
    if good:
        assert validate_id(text) == text
    else:
        with pytest.raises(ConfigError) as caught:
            SandboxLayout(text)
        assert caught.value.option == "id"


@pytest.mark.parametrize("id_", ["", ".", "..", "a/b", "../x", "-a", ".a", "a b", "a,b", "a\n", "x" * 65, "ä", "a\0"])
def test_ids_that_would_be_dangerous(id_):
    with pytest.raises(ConfigError):
        validate_id(id_)


@pytest.mark.parametrize("root", ["", "relative", "/with\0zero"])
def test_a_root_is_an_absolute_path(root):
    with pytest.raises(ConfigError) as caught:
        SandboxLayout("web", run_root=root)
    assert caught.value.option == "run_dir"


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_a_socket_path_fits_or_is_refused(elements):
    try:
        path = socket_path(*elements)
    except ConfigError:
        return
    assert 0 < len(path.encode()) <= 107
    assert "//" not in path


def test_the_limit_counts_bytes():
    assert socket_path("/", "x" * 106) == "/" + "x" * 106
    with pytest.raises(ConfigError, match="108 bytes"):
        socket_path("/", "x" * 107)
    with pytest.raises(ConfigError, match="109 bytes"):
        socket_path("/", "ä" * 54)


def test_the_longest_id_fits_the_default_roots():
    assert SandboxLayout("x" * 64).socket_path("monitor.sock")


def test_sandboxes_of_other_directories_have_other_names_on_the_host() -> None:
    names = {
        SandboxLayout("web").host_name,
        SandboxLayout("web", "/srv/state").host_name,
        SandboxLayout("web", "/srv/state", "/srv/run").host_name,
        SandboxLayout("web", "/var/lib/kata-hypervisor/", "/run//kata-hypervisor").host_name,
    }
    assert len(names) == 3 and "web" in names
    assert len({tap_name(name, "eth0") for name in names}) == 3


def test_sandboxes_of_other_directories_do_not_share_a_unit() -> None:
    names = {unit_stem(SandboxLayout("web", root, "/run/x")) for root in ("/a", "/b", "/var/lib/kata-hypervisor")}
    assert len(names) == 3
    assert "kata-sandbox-web" not in names
