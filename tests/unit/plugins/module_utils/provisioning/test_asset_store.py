# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versioned assets: installed whole or not at all, verified, switched, pruned; sources that are broken, tampered with or cut off."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import http.server
import io
import lzma
import os
import pathlib
import random
import signal
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
    LockTimeout,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.host.atomic_files import draft_directory
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.vulnerabilities import (
    refuse_vulnerable,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import (
    asset_store,
    compression,
    downloads,
    sources,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.asset_store import AssetStore, Wanted
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.sources import Checksum, fetch_from
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.vmlinux import extract_vmlinux

FILES = [Wanted("rel-{version}/vmm", "vmm", 0o755), Wanted("rel-{version}/share/", "share")]


def archive(
    directory: pathlib.Path, version: str, words: bytes = b"", mode: str = "w:gz", sums: dict[str, str] | None = None
) -> pathlib.Path:
    """A release as an upstream makes it."""
    path = directory / f"vmm-{version}.tgz"
    content = {
        "vmm": b"#!/bin/sh\necho " + version.encode() + words,
        "share/bios.bin": b"bios" + words,
        "share/deep/er": b"x",
    }
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
    options = {
        "wanted": wanted(version),
        "checksum": checksum(source),
        "sums": f"rel-{version}/SHA256SUMS",
        "use": True,
        "check_mode": False,
    }
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
    assert store.install("1.0", [], fetch_from("", "", store.root, None), None, "", True, False) == [
        "use vmm 1.0 instead of 2.0"
    ]
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
    for name, kind, target in (
        ("rel/a", tarfile.SYMTYPE, "../../../etc/passwd"),
        ("rel/b", tarfile.SYMTYPE, "/etc/passwd"),
    ):
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
    with pytest.raises(AssetError, match="must be for this host's architecture"):
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


def test_old_versions_go_but_not_one_that_runs(
    store: AssetStore, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_full_disk_leaves_what_was_there(
    store: AssetStore, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    if bad:
        with pytest.raises(HypervisorError, match="is vulnerable: CVE"):
            refuse_vulnerable("firecracker", version, jailed=True)
    else:
        refuse_vulnerable("firecracker", version, jailed=True)


# --- what others may do meanwhile --------------------------------------------------------------------------------------


def test_what_was_digested_is_what_is_used(
    store: AssetStore, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is exchanged in the moment in which it has passed its check."""
    source = archive(tmp_path, "1.0")
    good = checksum(source)
    check = Checksum.check

    def then_exchanged(self: Checksum, path: str) -> None:
        check(self, path)
        archive(tmp_path, "1.0", b" evil")
        os.replace(archive(tmp_path, "1.0", b" evil"), source)

    monkeypatch.setattr(Checksum, "check", then_exchanged)
    install(store, source, "1.0", checksum=good)
    assert b"evil" not in pathlib.Path(store.path("1.0", "vmm")).read_bytes()
    program = tmp_path / "program"
    program.write_bytes(b"right")
    right = checksum(program)
    monkeypatch.setattr(Checksum, "check", lambda self, path: (check(self, path), program.write_bytes(b"wrong")))
    install(store, program, "2.0", checksum=right, wanted=[Wanted("", "vmm")], sums="")
    assert pathlib.Path(store.path("2.0", "vmm")).read_bytes() == b"right"


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_the_umask(tmp_path: pathlib.Path, umask: int) -> None:
    store = AssetStore(str(tmp_path / "new/assets"), "vmm")
    before = os.umask(umask)
    try:
        with store.lock():
            install(store, archive(tmp_path, "1.0"), "1.0")
            install(
                store, archive(tmp_path, "2.0"), "2.0", wanted=[Wanted("rel-2.0/vmm", "deep/er/vmm", 0o755)], sums=""
            )
    finally:
        os.umask(before)
    for folder, _folders, files in os.walk(tmp_path / "new"):
        assert os.stat(folder).st_mode & 0o7777 == 0o755, folder
        for name in files:
            if name != ".lock":
                assert os.stat(os.path.join(folder, name)).st_mode & 0o7777 in (0o644, 0o755)


@pytest.mark.parametrize("mode", [0o777, 0o700, 0o775])
@pytest.mark.parametrize("which", ["root", "directory", "version", "below"])
def test_a_second_run_repairs_modes(store: AssetStore, tmp_path: pathlib.Path, mode: int, which: str) -> None:
    source = archive(tmp_path, "1.0")
    install(store, source, "1.0")
    path = {
        "root": store.root,
        "directory": store.directory,
        "version": store.path("1.0"),
        "below": store.path("1.0", "share"),
    }[which]
    os.chmod(path, mode)
    assert install(store, source, "1.0", check_mode=True) == [f"correct the mode of {path}"]
    assert os.stat(path).st_mode & 0o777 == mode
    assert install(store, source, "1.0") == [f"correct the mode of {path}"]
    assert os.stat(path).st_mode & 0o777 == 0o755
    assert install(store, source, "1.0") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")
def test_directories_of_somebody_else(store: AssetStore, tmp_path: pathlib.Path) -> None:
    source = archive(tmp_path, "1.0")
    install(store, source, "1.0")
    os.chown(store.path("1.0", "share"), 1234, 1234)
    assert install(store, source, "1.0")[0].startswith("repair vmm 1.0 (1.0/share belongs to user 1234")
    assert store.drift("1.0") == []
    for path in (store.root, store.directory):
        os.chown(path, 1234, 1234)
        for check_mode in (True, False):
            with pytest.raises(HostError, match=f"{path} belongs to user 1234"):
                install(store, source, "1.0", check_mode=check_mode)
        os.chown(path, 0, 0)
    parent = tmp_path / "shared"
    parent.mkdir()
    os.chown(parent, 1234, 1234)
    with pytest.raises(HostError, match=f"{parent} belongs to user 1234") as caught:
        install(AssetStore(str(parent / "assets"), "vmm"), source, "1.0")
    assert caught.value.option == "root" and os.listdir(parent) == []


def test_drafts_of_tasks_that_were_killed_are_removed_and_those_at_work_are_not(
    store: AssetStore, tmp_path: pathlib.Path
) -> None:
    os.makedirs(os.path.join(store.directory, ".new-killed/tree/deep"))
    with draft_directory(store.directory) as busy:
        install(store, archive(tmp_path, "1.0"), "1.0")
        assert sorted(os.listdir(store.directory)) == sorted([os.path.basename(busy), "1.0", "current"])
    assert sorted(os.listdir(store.directory)) == ["1.0", "current"]


def die(*_rest: object, **_more: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_task_that_is_killed_leaves_a_draft_that_the_next_one_removes(
    store: AssetStore, tmp_path: pathlib.Path
) -> None:
    source = archive(tmp_path, "1.0")
    for point in ("copy_file", "file_digest"):
        task = os.fork()
        if task == 0:
            setattr(sources, point, die)
            install(store, source, "1.0")
            os._exit(1)
        assert os.waitpid(task, 0)[1] == signal.SIGKILL
        assert any(name.startswith(".new-") for name in os.listdir(store.directory))
    assert install(store, source, "1.0") == ["install vmm 1.0", "use vmm 1.0"]
    assert sorted(os.listdir(store.directory)) == ["1.0", "current"]


def test_a_lock_that_is_held_has_a_limit_and_names_its_holder(
    store: AssetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asset_store, "LOCK_SECONDS", 0.2)
    with store.lock(), pytest.raises(LockTimeout, match="held the lock of the assets") as caught, store.lock():
        pass
    assert f"process {os.getpid()} " in caught.value.answer and caught.value.option == "root"


def test_what_is_in_place_was_synced_before(
    store: AssetStore, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file and directory of a version is synced before the version gets its name, and the directory of the versions afterwards."""
    done: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(
        os,
        "fsync",
        lambda descriptor: (done.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}"))), fsync(descriptor))[1],
    )
    monkeypatch.setattr(os, "rename", lambda old, new: (done.append(("rename", str(new))), rename(old, new))[1])
    install(store, archive(tmp_path, "1.0"), "1.0")
    final = store.path("1.0")
    moved = done.index(("rename", final))
    synced = {path.split("/tree", 1)[1] for what, path in done[:moved] if what == "sync" and "/tree" in path}
    assert synced >= {"", "/vmm", "/share", "/share/bios.bin", "/share/deep", "/share/deep/er", "/.asset.json"} - {
        "/.asset.json"
    }
    assert ("sync", store.directory) in done[moved:]
    assert done.index(("rename", os.path.join(store.directory, "current"))) < len(done) - 1


# --- lists, compressed files, holes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n", "no digests here\n", f"{'0' * 64}  other\n"])
def test_a_list_without_a_digest_of_a_member_is_an_error(store: AssetStore, tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in (("rel/vmm", b"program"), ("rel/SUMS", text.encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    with pytest.raises(AssetError) as caught:
        install(store, path, "1.0", wanted=[Wanted("rel/vmm", "vmm")], sums="rel/SUMS")
    assert caught.value.option == "sums" and store.versions() == []


@pytest.mark.parametrize(
    "form",
    [
        "SHA256 ({name}) = {digest}",
        "SHA2-256({name})= {digest}",
        "{digest}\t*./{name}",
        "\ufeff{digest}  {name}\r",
        "rel",
    ],
)
def test_lists_of_an_archive_in_other_forms(store: AssetStore, tmp_path: pathlib.Path, form: str) -> None:
    path, digest = tmp_path / "x.tar", hashlib.sha256(b"program").hexdigest()
    form = "{digest}  rel/{name}" if form == "rel" else form
    for content, fine in ((b"program", True), (b"evil", False)):
        with tarfile.open(path, "w") as tar:
            for name, data in (
                ("rel/vmm", content),
                (
                    "SUMS" if form.endswith("rel/{name}") else "rel/SUMS",
                    form.format(name="vmm", digest=digest).encode(),
                ),
            ):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        sums = "SUMS" if form.endswith("rel/{name}") else "rel/SUMS"
        if fine:
            assert install(store, path, "1.0", wanted=[Wanted("rel/vmm", "vmm")], sums=sums)
        else:
            with pytest.raises(AssetError, match="must have its digest"):
                install(store, path, "2.0", wanted=[Wanted("rel/vmm", "vmm")], sums=sums)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, bz2.compress, "zstd"])
def test_a_single_compressed_file(store: AssetStore, tmp_path: pathlib.Path, compress: Any) -> None:
    path, content = tmp_path / "image.x", b"\0" * (3 << 20) + b"an image"
    if compress == "zstd":
        path.write_bytes(subprocess.run(["zstd", "-c"], input=content, capture_output=True, check=True).stdout)
    else:
        path.write_bytes(compress(content))
    assert install(store, path, "1.0", wanted=[Wanted("", "image")], sums="", decompress=True)
    made = pathlib.Path(store.path("1.0", "image"))
    assert made.read_bytes() == content and made.stat().st_blocks * 512 < 1 << 20
    assert install(store, path, "1.0", wanted=[Wanted("", "image")], sums="", decompress=True) == []
    assert install(store, path, "1.0", wanted=[Wanted("", "image")], sums="", check_mode=True) == [
        "install another vmm 1.0"
    ]
    with pytest.raises(AssetError, match="must have at most 1 MiB"):
        install(store, path, "2.0", wanted=[Wanted("", "image")], sums="", decompress=True, most=1 << 20)
    path.write_bytes(content)
    with pytest.raises(AssetError, match="damaged"):
        install(store, path, "2.0", wanted=[Wanted("", "image")], sums="", decompress=True)
    assert store.versions() == ["1.0"]


def test_holes_of_a_file_stay_holes(store: AssetStore, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "sparse"
    with open(path, "wb") as stream:
        stream.truncate(300 << 20)
        stream.seek(100 << 20)
        stream.write(b"data")
    install(store, path, "1.0", wanted=[Wanted("", "image")], sums="")
    made = os.stat(store.path("1.0", "image"))
    assert made.st_size == 300 << 20 and made.st_blocks * 512 < 1 << 20
    install(store, path, "2.0", wanted=[Wanted("", "image"), Wanted("", "again")], sums="")
    assert os.stat(store.path("2.0", "again")).st_blocks * 512 < 1 << 20


def test_whatever_is_in_a_manifest_it_is_one_or_none(store: AssetStore, tmp_path: pathlib.Path) -> None:
    source = archive(tmp_path, "1.0")
    install(store, source, "1.0")
    path = pathlib.Path(store.path("1.0", ".asset.json"))
    good, chance = path.read_bytes(), random.Random(4)
    for number in range(1000):
        data = bytearray(good)
        for _change in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.choice(b'[]{}":,0a-\xff')
        path.write_bytes(
            [b"[" * 100000, b"[]", b'{"files": {"vmm": {}}}', b'{"files": {"vmm": 1}}'][number] if number < 4 else data
        )
        assert isinstance(install(store, source, "1.0", check_mode=True), list)


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
    with store.lock(), pytest.raises(AssetError, match="it resumes the download"):
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
        store.install(
            "1.0",
            wanted("1.0"),
            fetch_from(server.address, "", store.root, checksum(source)),
            checksum(source),
            "",
            True,
            False,
        )
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


@pytest.mark.parametrize(
    "content", [b"", b"not a kernel" * 100, bzimage(b"unknown payload")[:-20], bzimage(b"unknown payload")]
)
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
