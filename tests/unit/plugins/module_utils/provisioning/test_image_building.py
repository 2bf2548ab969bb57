# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: made again only for a reason, converted from the format that was named, refused when they are none or lead elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    ConfigError,
    HostError,
    HypervisorError,
    LockTimeout,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.host.atomic_files import locked
from ansible_collections.kata.hypervisor.plugins.module_utils.host.programs import Ended
from ansible_collections.kata.hypervisor.plugins.module_utils.host.qcow2 import NotQcow2
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import built_files, disk_image, root_image
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.built_files import BuiltFile
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.root_image import Recipe, User
from tests.support import wrong_answers

needs_qemu_img = pytest.mark.skipif(
    not shutil.which("qemu-img") or not shutil.which("mke2fs"), reason="needs qemu-img and mke2fs"
)


class Maker:
    """Makes a file, and counts how often."""

    def __init__(self, words: bytes) -> None:
        self.words, self.times = words, 0

    def __call__(self, work: str) -> tuple[str, dict[str, Any]]:
        self.times += 1
        path = pathlib.Path(work, "made")
        path.write_bytes(self.words)
        return str(path), {"packages": ["a=1"]}


def test_it_is_made_again_only_for_a_reason(tmp_path: pathlib.Path) -> None:
    path, maker = tmp_path / "images/guest.img", Maker(b"words")
    image = BuiltFile(str(path))
    assert image.converge({"suite": "x"}, maker, check_mode=True)["actions"] == [f"make {path}"]
    assert not path.parent.exists()
    first = image.converge({"suite": "x"}, maker, check_mode=False)
    assert (first["changed"], first["size"], first["about"]) == (True, 5, {"packages": ["a=1"]})
    again = image.converge({"suite": "x"}, maker, check_mode=False)
    assert (again["changed"], again["sha256"], maker.times) == (False, first["sha256"], 1)
    assert image.converge({"suite": "y"}, maker, check_mode=True)["actions"] == [
        f"make {path} again, with another suite"
    ]
    assert maker.times == 1
    path.write_bytes(b"evil")
    assert image.converge({"suite": "x"}, maker, check_mode=False)["actions"] == [
        f"make {path} again, since it was altered"
    ]
    assert path.read_bytes() == b"words"
    assert image.remove(check_mode=False)["changed"]
    assert [entry.name for entry in path.parent.iterdir()] == [".lock"]
    assert not image.remove(check_mode=False)["changed"]


def test_a_failure_leaves_the_old_one(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "guest.img"
    image = BuiltFile(str(path))
    image.converge({"n": 1}, Maker(b"old"), check_mode=False)

    def full(work: str) -> tuple[str, dict[str, Any]]:
        pathlib.Path(work, "half").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(HostError, match="the disk is full"):
        image.converge({"n": 2}, full, check_mode=False)
    assert path.read_bytes() == b"old"
    assert image.converge({"n": 1}, full, check_mode=False)["changed"] is False
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".guest.img.json", ".lock", "guest.img"]


@pytest.fixture
def ext4(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "root.ext4"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(path), "8M"], check=True)
    return path


@needs_qemu_img
def test_an_image_is_converted_and_made_larger(tmp_path: pathlib.Path, ext4: pathlib.Path) -> None:
    qcow2 = tmp_path / "root.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(ext4), str(qcow2)], check=True)
    made = pathlib.Path(disk_image.convert(str(qcow2), "qcow2", "raw", 32, str(tmp_path)))
    assert made.stat().st_size == 32 << 20
    assert made.read_bytes()[: 8 << 20] == ext4.read_bytes()
    with pytest.raises(ConfigError, match="must not be smaller"):
        disk_image.convert(str(qcow2), "qcow2", "raw", 4, str(tmp_path))


@needs_qemu_img
def test_the_format_that_was_named_counts(tmp_path: pathlib.Path, ext4: pathlib.Path) -> None:
    with pytest.raises(AssetError, match=r"must be an image of that format.*must be in qcow2 format"):
        disk_image.convert(str(ext4), "qcow2", "raw", 0, str(tmp_path))
    # What claims to be qcow2 is bytes of a raw image, when raw is what was named.
    qcow2 = tmp_path / "root.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(qcow2), "8M"], check=True)
    with pytest.raises(AssetError, match="must be an image with a partition table"):
        disk_image.convert(str(qcow2), "raw", "raw", 0, str(tmp_path))


@needs_qemu_img
def test_an_image_that_reads_files_of_the_host_is_refused(tmp_path: pathlib.Path) -> None:
    secret, evil = tmp_path / "secret", tmp_path / "evil.qcow2"
    secret.write_bytes(b"secret" * 512)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(secret), "-F", "raw", str(evil)], check=True)
    with pytest.raises(AssetError, match=r"must not name other files.*secret"):
        disk_image.convert(str(evil), "qcow2", "raw", 0, str(tmp_path))
    subprocess.run(
        [
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            f"data_file={tmp_path}/data,data_file_raw=on",
            str(evil),
            "1M",
        ],
        check=True,
    )
    with pytest.raises(AssetError, match=r"must not name other files.*data"):
        disk_image.convert(str(evil), "qcow2", "raw", 0, str(tmp_path))
    vmdk = tmp_path / "flat.vmdk"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", str(vmdk), "1M"], check=True
    )
    with pytest.raises(AssetError, match=r"must not name other files.*flat-flat"):
        disk_image.convert(str(vmdk), "vmdk", "raw", 0, str(tmp_path))


@pytest.mark.parametrize("check", [disk_image.check_raw_image, disk_image.check_initrd, disk_image.check_kernel])
@pytest.mark.parametrize("words", [b"", b"<html>404 Not Found</html>" * 100, bytes(1 << 17)])
def test_what_is_nothing_to_boot_from(tmp_path: pathlib.Path, check: Any, words: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(words)
    with pytest.raises(AssetError, match=r"must be an? (image|initrd|kernel)"):
        check(str(path))


@pytest.mark.parametrize(
    "options",
    [
        {"name": "Root"},
        {"name": "x:0:0"},
        {"name": "x", "groups": ["wheel,root"]},
        {"name": "x", "ssh_keys": ["ssh-ed25519 AAAA\nssh-ed25519 BBBB"]},
        {"name": "x", "ssh_keys": ["AAAA"]},
        {"name": "x", "shell": "sh"},
    ],
)
def test_what_is_no_user(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        User.parse(options)


@pytest.mark.parametrize(
    "change", [{"suite": "--help"}, {"packages": ("a,b",)}, {"packages": ("-x",)}, {"hostname": "a b"}, {"size_mb": -1}]
)
def test_what_is_no_recipe(change: dict[str, Any]) -> None:
    with pytest.raises(HypervisorError):
        Recipe(**{"suite": "bookworm", "packages": ("systemd-sysv",), **change}).checked()


QCOW2 = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(64) + bytes(32)


def qcow2(backing: bytes = b"", data: bytes = b"") -> bytes:
    """The header of an image, version 3, of 1 MiB."""
    header = bytearray(QCOW2)
    header[20:24] = (16).to_bytes(4, "big")
    header[24:32] = (1 << 20).to_bytes(8, "big")
    header[100:104] = (104).to_bytes(4, "big")
    if data:
        header[72:80] = (4).to_bytes(8, "big")
        header += (
            (0x44415441).to_bytes(4, "big") + len(data).to_bytes(4, "big") + data.ljust(-(-len(data) // 8) * 8, b"\0")
        )
    header += bytes(8)
    if backing:
        header[8:20] = len(header).to_bytes(8, "big") + len(backing).to_bytes(4, "big")
        header += backing
    return bytes(header)


@pytest.mark.parametrize("name", ["/etc/shadow", "json:{}", "nbd://host/x", "\x1b[2J"])
def test_no_program_opens_an_image_that_names_other_files(
    tmp_path: pathlib.Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_image, "run", lambda *_: pytest.fail("a program was run"))
    monkeypatch.setattr(disk_image, "installed_program", lambda *_: "/bin/true")
    path = tmp_path / "evil"
    vmdk = f'# Disk DescriptorFile\nversion=1\nRW 2048 FLAT "{name}" 0\n'.encode()
    for kind, content in (
        ("qcow2", qcow2(backing=name.encode())),
        ("qcow2", qcow2(data=name.encode())),
        ("vmdk", vmdk),
    ):
        path.write_bytes(content)
        with pytest.raises(AssetError, match="must not name other files") as caught:
            disk_image.convert(str(path), kind, "raw", 0, str(tmp_path))
        assert caught.value.answer.startswith("it names ") and caught.value.answer.endswith(
            name.replace("\x1b", "\\x1b")
        )
    path.write_bytes(qcow2())
    assert disk_image.other_file(str(path), "qcow2") == ""


def test_whatever_is_in_a_header_nothing_else_is_raised(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x"
    chance = random.Random(1)
    for number in range(5000):
        data = bytearray(
            (
                qcow2(backing=b"x" * 20),
                qcow2(data=b"y" * 20),
                b"KDMV" + bytes(600),
                b'# Disk DescriptorFile\nRW 1 FLAT "x" 0',
            )[number % 4]
        )
        for _change in range(chance.randint(1, 5)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.randint(0, len(data))])
        with contextlib.suppress(NotQcow2):
            assert isinstance(disk_image.other_file(str(path), ("qcow2", "vmdk", "raw")[number % 3]), str)


@needs_qemu_img
def test_an_image_that_is_open_elsewhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "qemu-img: Could not open 'x': Failed to get shared \"write\" lock\nIs another process using the image [x]?"
    monkeypatch.setattr(disk_image, "run", lambda argv, _seconds: Ended(argv, 1, b"", words))
    (tmp_path / "x").write_bytes(qcow2())
    with pytest.raises(HostError, match="no other process may have the image open") as caught:
        disk_image.convert(str(tmp_path / "x"), "qcow2", "raw", 0, str(tmp_path))
    assert (caught.value.option, caught.value.wanted) == ("src", str(tmp_path / "x"))
    monkeypatch.setattr(disk_image, "run", lambda argv, _seconds: Ended(argv, 1, b"", "Image is not in qcow2 format"))
    with pytest.raises(AssetError, match="must be an image of that format") as refused:
        disk_image.convert(str(tmp_path / "x"), "qcow2", "raw", 0, str(tmp_path))
    assert (refused.value.option, refused.value.wanted) == ("src_format", "qcow2")


@needs_qemu_img
def test_wrong_answers_of_qemu_img(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(qcow2())
    chance = random.Random(2)
    for wrong in [*(wrong_answers.wrong(disk_image.INFO, chance) for _try in range(300)), "x", [], None]:
        answer = json.dumps(wrong).encode()
        monkeypatch.setattr(disk_image, "run", lambda argv, _seconds, answer=answer: Ended(argv, 0, answer, ""))
        with pytest.raises(HypervisorError):
            disk_image.convert(str(tmp_path / "x"), "qcow2", "raw", 1, str(tmp_path))


def test_what_is_read_is_what_was_looked_at(tmp_path: pathlib.Path) -> None:
    """A file that only root could exchange is read where it is, another one from a copy; one that has changed is refused."""
    source, work = tmp_path / "x", tmp_path / "work"
    work.mkdir()
    source.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    assert disk_image.private_source(str(source), digest, str(work)) == str(source)
    source.chmod(0o666)
    assert disk_image.private_source(str(source), digest, str(work)) == str(work / "source")
    (work / "source").unlink()
    source.write_bytes(b"other")
    with pytest.raises(AssetError, match="must not be changed while it is read"):
        disk_image.private_source(str(source), digest, str(work))


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_are_what_the_code_says_and_are_repaired(tmp_path: pathlib.Path, umask: int) -> None:
    path = tmp_path / "images/deep/guest.img"
    before = os.umask(umask)
    try:
        BuiltFile(str(path)).converge({"n": 1}, Maker(b"words"), check_mode=False)
    finally:
        os.umask(before)
    assert [one.stat().st_mode & 0o777 for one in (path, path.parent, path.parent.parent)] == [0o644, 0o755, 0o755]
    path.chmod(0o600)
    assert BuiltFile(str(path)).converge({"n": 1}, Maker(b""), check_mode=True)["actions"] == [
        f"correct the mode of {path}"
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    assert BuiltFile(str(path)).converge({"n": 1}, Maker(b""), check_mode=False)["changed"]
    assert path.stat().st_mode & 0o777 == 0o644 and path.read_bytes() == b"words"


def test_a_lock_that_is_held_has_a_limit_and_names_its_holder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(built_files, "LOCK_SECONDS", 0.2)
    with locked(str(tmp_path / ".lock"), 1, "it"), pytest.raises(LockTimeout) as caught:
        BuiltFile(str(tmp_path / "x")).converge({"n": 1}, Maker(b""), check_mode=False)
    assert caught.value.option == "path" and f"process {os.getpid()} " in caught.value.answer


def test_drafts_of_tasks_that_were_killed_are_removed(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".new-killed/tree").mkdir(parents=True)
    BuiltFile(str(tmp_path / "x")).converge({"n": 1}, Maker(b""), check_mode=False)
    assert sorted(os.listdir(tmp_path)) == [".lock", ".x.json", "x"]


def test_whatever_is_in_a_note_it_is_one_or_none(tmp_path: pathlib.Path) -> None:
    image = BuiltFile(str(tmp_path / "x"))
    image.converge({"n": 1}, Maker(b"words"), check_mode=False)
    note = tmp_path / ".x.json"
    good, chance = note.read_bytes(), random.Random(3)
    changes = [
        b"[]",
        b"{",
        b"[" * 100000,
        b'{"recipe": [], "sha256": "", "about": {}}',
        b'{"recipe": {}, "sha256": 1, "about": {}}',
        b'{"recipe": {}}',
    ]
    for _number in range(1500):
        data = bytearray(good)
        for _change in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.choice(b'[]{}":,0a\xff')
        changes.append(bytes(data))
    for change in changes:
        note.write_bytes(change)
        result = image.converge({"n": 1}, Maker(b"words"), check_mode=True)
        assert isinstance(result["about"], dict) and isinstance(result["changed"], bool)


def test_mmdebstrap_gets_the_proxies_of_the_hosts_apt(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = [
        'Acquire::http::Proxy "http://name:secret@192.0.2.1:3128/";',
        'Acquire::https::Proxy::deb.debian.org "DIRECT";',
    ]
    dump = ['APT::Architecture "amd64";', 'Acquire::http "";', *proxies, 'Acquire::Languages "none";']
    answers = {"apt-config": "\n".join(dump)}
    monkeypatch.setattr(root_image, "_run", lambda program, _arguments: answers[program])
    umask = os.umask(0)
    try:
        (option,) = root_image._proxy_options(str(tmp_path))
    finally:
        os.umask(umask)
    written = pathlib.Path(option.partition("=")[2])
    assert option.startswith("--aptopt=") and "secret" not in option
    assert written.read_text().splitlines() == proxies and written.stat().st_mode & 0o777 == 0o600
    answers["apt-config"] = 'APT::Architecture "amd64";\n'
    assert root_image._proxy_options(str(tmp_path)) == []
