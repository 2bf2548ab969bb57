# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versioned assets: installed whole or not at all, verified, switched, pruned; sources that are broken, tampered with or cut off."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import pathlib
import struct
import subprocess
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    ConfigError,
    HostError,
    HypervisorError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import asset_store, compression, downloads
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.asset_store import AssetStore, Wanted
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.sources import Checksum, fetch_from
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.vmlinux import extract_vmlinux

FILES = [Wanted("rel-{version}/vmm", "vmm", 0o755), Wanted("rel-{version}/share/", "share")]


def archive(directory: pathlib.Path, version: str, words: bytes = b"", mode: str = "w:gz", sums: dict[str, str] | None = None) -> pathlib.Path:
    """A release as an upstream makes it."""
    path = directory / f"vmm-{version}.tgz"
    content = {"vmm": b"#!/bin/sh\necho " + version.encode() + words, "share/bios.bin": b"bios" + words, "share/deep/er": b"x"}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()} | (sums or {})
    content["SHA256SUMS"] = "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()
    with tarfile.open(path, mode) as tar:
        for name, data in content.items():
            entry = tarfile.TarInfo(f"./rel-{version}/{name}")
            entry.size, entry.mode = len(data), 0o755 if name == "vmm" else 0o644
            tar.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo(f"./rel-{version}/share/link")
        link.type, link.linkname = tarfile.SYMTYPE, "bios.bin"
        tar.addfile(link)
    return path


def checksum(path: pathlib.Path) -> Checksum:
    return Checksum("sha256", hashlib.sha256(path.read_bytes()).hexdigest())


def wanted(version: str) -> list[Wanted]:
    return [Wanted(file.member.replace("{version}", version), file.dest, file.mode) for file in FILES]


@pytest.fixture
def store(tmp_path: pathlib.Path) -> AssetStore:
    return AssetStore(str(tmp_path / "assets"), "vmm")


def install(store: AssetStore, source: pathlib.Path, version: str, **other: Any) -> list[str]:
    options = {"wanted": wanted(version), "checksum": checksum(source), "sums": f"rel-{version}/SHA256SUMS", "use": True, "check_mode": False}
    options.update(other)
    fetch = fetch_from("", str(source), store.root, options["checksum"])
    return store.install(version, fetch=fetch, **options)


def test_versions_lie_side_by_side_and_one_is_used(store: AssetStore, tmp_path: pathlib.Path) -> None:
    first, second = archive(tmp_path, "1.0"), archive(tmp_path, "2.0")
    assert install(store, first, "1.0", check_mode=True) == ["install vmm 1.0", "use vmm 1.0"]
    assert store.versions() == []
    assert install(store, first, "1.0") == ["install vmm 1.0", "use vmm 1.0"]
    assert install(store, first, "1.0") == []
    program = os.path.join(store.directory, "current", "vmm")
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "1.0\n"
    assert install(store, second, "2.0") == ["install vmm 2.0", "use vmm 2.0 instead of 1.0"]
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "2.0\n"
    assert pathlib.Path(store.directory, "current/share/link").read_bytes() == b"bios"
    # Going back takes no source.
    assert store.install("1.0", [], fetch_from("", "", store.root, None), None, "", True, False) == ["use vmm 1.0 instead of 2.0"]
    assert store.versions() == ["2.0", "1.0"]


@pytest.mark.parametrize("damage", ["alter", "mode", "remove", "add", "link"])
def test_drift_shows_and_is_repaired(store: AssetStore, tmp_path: pathlib.Path, damage: str) -> None:
    source = archive(tmp_path, "1.0")
    install(store, source, "1.0")
    place = pathlib.Path(store.path("1.0"))
    if damage == "alter":
        (place / "vmm").write_text("evil")
    elif damage == "mode":
        (place / "vmm").chmod(0o777)
    elif damage == "remove":
        (place / "share/bios.bin").unlink()
    elif damage == "add":
        (place / "share/evil").write_text("")
    else:
        (place / "share/link").unlink()
        (place / "share/link").symlink_to("/etc/passwd")
    assert len(store.drift("1.0")) == 1
    assert install(store, source, "1.0")[0].startswith("repair vmm 1.0 (")
    assert store.drift("1.0") == []


def test_damage_without_a_source_is_an_error(store: AssetStore, tmp_path: pathlib.Path) -> None:
    install(store, archive(tmp_path, "1.0"), "1.0")
    pathlib.Path(store.path("1.0", "vmm")).write_text("evil")
    with pytest.raises(AssetError, match="neither url nor src"):
        store.install("1.0", [], fetch_from("", "", store.root, None), None, "", True, False)


def test_the_source_must_be_what_was_asked_for(store: AssetStore, tmp_path: pathlib.Path) -> None:
    install(store, archive(tmp_path, "1.0"), "1.0")
    evil = archive(tmp_path, "2.0")
    good = checksum(evil)
    archive(tmp_path, "2.0", b" evil")
    with pytest.raises(AssetError, match="not what was asked for"):
        install(store, evil, "2.0", checksum=good)
    assert (store.current(), store.versions(), store.drift("1.0")) == ("1.0", ["1.0"], [])
    assert sorted(os.listdir(store.directory)) == ["1.0", "current"]


@pytest.mark.parametrize("problem", ["sums", "member", "truncated", "no archive"])
def test_a_broken_archive_changes_nothing(store: AssetStore, tmp_path: pathlib.Path, problem: str) -> None:
    install(store, archive(tmp_path, "1.0"), "1.0")
    source = archive(tmp_path, "2.0", sums={"vmm": "0" * 64} if problem == "sums" else None)
    other: dict[str, Any] = {}
    if problem == "member":
        other["wanted"] = [Wanted("rel-2.0/missing", "vmm")]
    elif problem == "truncated":
        source.write_bytes(source.read_bytes()[:-200])
    elif problem == "no archive":
        source.write_bytes(b"<html>404</html>")
    with pytest.raises(AssetError):
        install(store, source, "2.0", checksum=checksum(source), **other)
    assert (store.current(), store.versions()) == ("1.0", ["1.0"])
    assert sorted(os.listdir(store.directory)) == ["1.0", "current"]


def test_links_and_names_that_lead_outside_are_refused(store: AssetStore, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "evil.tar"
    for name, kind, target in (("rel/a", tarfile.SYMTYPE, "../../../etc/passwd"), ("rel/b", tarfile.SYMTYPE, "/etc/passwd")):
        with tarfile.open(path, "w") as tar:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
        with pytest.raises(AssetError, match="leads outside"):
            install(store, path, "1.0", wanted=[Wanted("rel/", "x")], sums="")
    for dest in ("../x", "/etc/x", ".asset.json", ""):
        with pytest.raises(ConfigError):
            Wanted.parse({"dest": dest}, "1", "x86_64")
    with pytest.raises(ConfigError):
        Wanted.parse({"dest": "x", "mode": "0777"}, "1", "x86_64")


def test_a_program_for_another_machine_is_refused(store: AssetStore, tmp_path: pathlib.Path) -> None:
    foreign = {"x86_64": 183}.get(os.uname().machine, 62)
    program = tmp_path / "vmm"
    program.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, foreign) + bytes(40))
    with pytest.raises(AssetError, match="and this host is"):
        install(store, program, "1.0", wanted=[Wanted("", "vmm", 0o755)], sums="")
    assert store.versions() == []


def test_a_zip_and_a_bare_file(store: AssetStore, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("target/vmm", "zipped")
    install(store, path, "1.0", wanted=[Wanted("target/vmm", "vmm", 0o755)], sums="")
    assert pathlib.Path(store.path("1.0", "vmm")).read_text() == "zipped"
    install(store, path, "2.0", wanted=[Wanted("", "bare")], sums="")
    assert pathlib.Path(store.path("2.0", "bare")).read_bytes() == path.read_bytes()


def test_old_versions_go_but_not_one_that_runs(store: AssetStore, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 5):
        install(store, archive(tmp_path, f"{number}.0"), f"{number}.0")
    monkeypatch.setattr(asset_store, "programs_running", lambda: {store.path("1.0", "vmm")})
    assert store.prune(1, "4.0", check_mode=True) == ["remove vmm 2.0"]
    assert store.prune(1, "4.0", check_mode=False) == ["remove vmm 2.0"]
    assert store.versions() == ["4.0", "3.0", "1.0"]
    with pytest.raises(HostError, match="a process runs"):
        store.remove("", check_mode=False)
    with pytest.raises(HostError, match="in use"):
        store.remove("4.0", check_mode=False)
    monkeypatch.setattr(asset_store, "programs_running", set)
    assert store.remove("", check_mode=False) == ["remove vmm 4.0", "remove vmm 3.0", "remove vmm 1.0"]
    assert not os.path.exists(store.directory)
    assert store.remove("", check_mode=False) == []


def test_a_full_disk_leaves_what_was_there(store: AssetStore, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(store, archive(tmp_path, "1.0"), "1.0")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(asset_store, "_unpack", full)
    with pytest.raises(HostError, match="the disk is full"):
        install(store, archive(tmp_path, "2.0"), "2.0")
    assert (store.current(), sorted(os.listdir(store.directory))) == ("1.0", ["1.0", "current"])


@pytest.mark.parametrize("text", ["md5:" + "0" * 32, "sha256:abc", "sha512:" + "z" * 128, "0" * 64])
def test_what_is_no_checksum(text: str) -> None:
    with pytest.raises(ConfigError):
        Checksum.parse(text)


@pytest.mark.parametrize(("version", "bad"), [("v0.21.2", True), ("1.14.0", True), ("v1.16.1", False)])
def test_vulnerable_versions_are_refused(version: str, bad: bool) -> None:
    files = [Wanted("", "firecracker"), Wanted("", "jailer")]
    if bad:
        with pytest.raises(HypervisorError, match="is vulnerable: CVE"):
            asset_store.refuse_vulnerable("firecracker", version, files)
    else:
        asset_store.refuse_vulnerable("firecracker", version, files)


# --- downloads ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server that breaks off after as many bytes as it is told, and knows ranges."""
    monkeypatch.setattr(downloads.time, "sleep", lambda _: None)

    class Handler(http.server.BaseHTTPRequestHandler):
        content = b""
        breaks: ClassVar[list[int]] = []
        asked: ClassVar[list[str]] = []

        def do_GET(self) -> None:
            ranged = self.headers.get("Range", "")
            type(self).asked.append(ranged)
            start = int(ranged[6:-1]) if ranged else 0
            if not self.content or start >= len(self.content):
                self.send_error(416 if self.content else 404)
                return
            self.send_response(206 if ranged else 200)
            self.send_header("Content-Length", str(len(self.content) - start))
            self.end_headers()
            end = start + type(self).breaks.pop(0) if type(self).breaks else len(self.content)
            self.wfile.write(self.content[start:end])

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        Handler.address = f"http://127.0.0.1:{made.server_port}/x"  # type: ignore[attr-defined]
        yield Handler
        made.shutdown()


def test_a_download_goes_on_where_it_broke_off(server: Any, tmp_path: pathlib.Path) -> None:
    server.content, server.breaks, server.asked = os.urandom(50000), [10000, 5], []
    assert downloads.download(server.address, str(tmp_path / "x")) == 50000
    assert (tmp_path / "x").read_bytes() == server.content
    assert server.asked == ["", "bytes=10000-", "bytes=10005-"]


def test_what_an_earlier_run_brought_is_used(server: Any, store: AssetStore, tmp_path: pathlib.Path) -> None:
    source = archive(tmp_path, "1.0")
    server.content, server.breaks, server.asked = source.read_bytes(), [100, 0, 0, 0], []
    fetch = fetch_from(server.address, "", store.root, checksum(source))
    arguments = ("1.0", wanted("1.0"), fetch, checksum(source), "", True, False)
    with store.lock(), pytest.raises(AssetError, match="goes on where it broke off"):
        store.install(*arguments)
    assert store.versions() == []
    with store.lock():
        store.install(*arguments)
    assert server.asked[-1] == "bytes=100-"
    assert store.current() == "1.0"
    assert sorted(os.listdir(store.root)) == [".lock", "vmm"]


def test_a_tampered_download_is_thrown_away(server: Any, store: AssetStore, tmp_path: pathlib.Path) -> None:
    source = archive(tmp_path, "1.0")
    server.content = b"evil" + source.read_bytes()[4:]
    with store.lock(), pytest.raises(AssetError, match="not what was asked for"):
        store.install("1.0", wanted("1.0"), fetch_from(server.address, "", store.root, checksum(source)), checksum(source), "", True, False)
    assert os.listdir(store.directory) == []
    assert os.listdir(store.root) == [".lock", "vmm"] or sorted(os.listdir(store.root)) == [".lock", "vmm"]


def test_what_is_not_there_is_said_at_once(server: Any, tmp_path: pathlib.Path) -> None:
    server.content, server.asked = b"", []
    with pytest.raises(AssetError, match="404"):
        downloads.download(server.address, str(tmp_path / "x"))
    assert len(server.asked) == 1
    with pytest.raises(ConfigError):
        downloads.download("file:///etc/passwd", str(tmp_path / "x"))


# --- kernels -----------------------------------------------------------------------------------------------------------


def bzimage(payload: bytes) -> bytes:
    """A kernel as boot.rst describes it: four sectors of setup, and the payload's place in the header."""
    setup = bytearray(5 * 512)
    setup[0x1F1] = 4
    setup[0x202:0x206] = b"HdrS"
    setup[0x248:0x250] = struct.pack("<II", 16, len(payload))
    return bytes(setup) + bytes(16) + payload + b"tail"


def test_the_kernel_in_a_kernel(tmp_path: pathlib.Path) -> None:
    elf = b"\x7fELF" + os.urandom(3000)
    compressor = zlib.compressobj(wbits=31)
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(compressor.compress(elf) + compressor.flush() + struct.pack("<I", len(elf))))
    assert extract_vmlinux(str(path)) == elf
    path.write_bytes(elf)
    assert extract_vmlinux(str(path)) == elf


@pytest.mark.parametrize("content", [b"", b"not a kernel" * 100, bzimage(b"unknown payload")[:-20], bzimage(b"unknown payload")])
def test_what_holds_no_kernel(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(content)
    with pytest.raises(AssetError):
        extract_vmlinux(str(path))


def test_a_kernel_in_lz4_needs_no_program(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By the format's description: 7 literals, a copy of 4 from 4 back, 2 literals; then 1 literal, a copy of 20 from 1 back, 1 literal.
    first = bytes([0x70]) + b"\x7fELFabc" + bytes([4, 0, 0x20]) + b"yz"
    second = bytes([0x1F]) + b"x" + bytes([1, 0, 1, 0x10]) + b"!"
    blocks = b"".join(struct.pack("<I", len(block)) + block for block in (first, second))
    elf = b"\x7fELFabc" + b"Fabc" + b"yz" + b"x" + b"x" * 20 + b"!"
    monkeypatch.setattr(compression.shutil, "which", lambda _: None)
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(b"\x02\x21\x4c\x18" + blocks + struct.pack("<I", len(elf))))
    assert extract_vmlinux(str(path)) == elf
    path.write_bytes(bzimage(b"\x02\x21\x4c\x18" + blocks[:14] + b"\xff" * 8))
    with pytest.raises(AssetError):
        extract_vmlinux(str(path))
