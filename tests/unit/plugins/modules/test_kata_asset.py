# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module kata_asset: what is not what it should be is refused, and what is vulnerable, unless that is allowed."""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.asset_store import AssetStore
from ansible_collections.kata.hypervisor.plugins.modules import kata_asset


def options(source: pathlib.Path, **other: Any) -> dict[str, Any]:
    """What a task gives, the rest as it is when nothing is said."""
    given = {
        "version": "1.0",
        "arch": None,
        "url": None,
        "sums": None,
        "files": [],
        "src": str(source),
        "root": str(source.parent),
    }
    given |= {
        "checksum": "sha256:" + hashlib.sha256(source.read_bytes()).hexdigest(),
        "verify": True,
        "allow_vulnerable": False,
    }
    given |= {"decompress": False, "max_size_mb": None}
    return {**given, "content": "any", "use": True, "keep": None, "download_seconds": 0, **other}


@pytest.mark.parametrize("content", ["image", "initrd", "kernel"])
def test_a_web_page_is_none_of_these(tmp_path: pathlib.Path, content: str) -> None:
    source = tmp_path / "x"
    source.write_text("<html>404 Not Found</html>")
    store = AssetStore(str(tmp_path), "thing")
    with pytest.raises(AssetError, match=rf"must be an? {content}"):
        kata_asset.present(options(source, content=content), store, check_mode=False)
    assert store.versions() == []
    assert kata_asset.present(options(source), store, check_mode=False)["actions"] == [
        "install thing 1.0",
        "use thing 1.0",
    ]


def test_a_vulnerable_version_has_to_be_allowed(tmp_path: pathlib.Path) -> None:
    source = tmp_path / "x"
    source.write_text("#!/bin/sh\n")
    store = AssetStore(str(tmp_path), "firecracker")
    with pytest.raises(HypervisorError, match=r"v0\.21\.2 is vulnerable: CVE-2020-27174"):
        kata_asset.present(options(source, version="v0.21.2"), store, check_mode=False)
    assert store.versions() == []
    assert kata_asset.present(options(source, version="v0.21.2", allow_vulnerable=True), store, check_mode=False)[
        "actions"
    ]
    assert store.current() == "v0.21.2"
