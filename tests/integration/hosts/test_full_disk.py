# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is really full: the version that is installed stays, and what was downloaded in vain makes room."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import pathlib
import subprocess
import threading
from collections.abc import Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.asset_store import AssetStore, Wanted
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.sources import Checksum, fetch_from

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[str]:
    """A web server; its address."""
    served = tmp_path / "served"
    served.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


@pytest.mark.parametrize("way", ["download", "file of the host"])
def test_a_full_disk_leaves_the_old_version(
    small_disk: pathlib.Path, tmp_path: pathlib.Path, server: str, way: str
) -> None:
    store = AssetStore(str(small_disk / "assets"), "vmm")

    def install(version: str, content: bytes) -> list[str]:
        source = tmp_path / "served" / version
        source.write_bytes(content)
        checksum = Checksum("sha256", hashlib.sha256(content).hexdigest())
        with store.lock():
            fetch = fetch_from(
                f"{server}/{version}" if way == "download" else "",
                "" if way == "download" else str(source),
                store.root,
                checksum,
            )
            return store.install(version, [Wanted("", "vmm")], fetch, checksum, "", True, False)

    assert install("1.0", b"a" * MIB) == ["install vmm 1.0", "use vmm 1.0"]
    free = os.statvfs(small_disk).f_bfree
    with pytest.raises(HostError, match=r"the disk is full.*is unchanged"):
        install("2.0", b"b" * 6 * MIB)
    assert (store.current(), store.versions(), store.drift("1.0")) == ("1.0", ["1.0"], [])
    assert os.statvfs(small_disk).f_bfree == free
    # What fits goes in, right after.
    assert install("2.1", b"c" * (MIB // 2)) == ["install vmm 2.1", "use vmm 2.1 instead of 1.0"]
