# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that somebody made to harm: links that lead outside, by one step or by many, bombs, wrong numbers. Nothing outside is ever written."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import pathlib
import random
import subprocess
import tarfile
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, HostError, HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.guest import cpio
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import archive_formats, archives
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.archives import Archive, Tree, leads_inside
from tests.support.waiting import PATIENCE

#: A member: its name, and its content, or with an arrow before it where the link leads ("->" symbolic, "=>" hard).
Entries = list[tuple[str, str]]


def make_tar(path: pathlib.Path, entries: Entries) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            if content[:2] in ("->", "=>"):
                entry.type, entry.linkname = {"->": tarfile.SYMTYPE, "=>": tarfile.LNKTYPE}[content[:2]], content[2:]
            else:
                entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content.encode()))


def make_zip(path: pathlib.Path, entries: Entries) -> None:
    with zipfile.ZipFile(path, "w") as zipped, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Two members of a name are what somebody may make.
        for name, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o120777 if content[:2] == "->" else 0o100644) << 16
            zipped.writestr(entry, content[2:] if content[:2] == "->" else content)


def make_cpio(path: pathlib.Path, entries: Entries) -> None:
    out = b""
    for number, (name, content) in enumerate([*entries, ("TRAILER!!!", "")], start=1):
        mode, data = (0o120777, content[2:].encode()) if content[:2] == "->" else (0o100644, content.encode())
        out += cpio._record(name, number, cpio._Entry(mode if name != "TRAILER!!!" else 0, data, (0, 0)))
    path.write_bytes(out)


MAKERS = {"tar": make_tar, "zip": make_zip, "cpio": make_cpio}


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A directory with a tree to unpack to, and a file outside that nobody may touch."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("untouched")
    (tmp_path / "work/tree").mkdir(parents=True)
    yield tmp_path
    assert (tmp_path / "outside/file").read_text() == "untouched"
    assert sorted(os.listdir(tmp_path / "outside")) == ["file"]
    assert set(os.listdir(tmp_path)) <= {"outside", "work", "archive"}
    assert set(os.listdir(tmp_path / "work")) <= {"tree"}


def unpack(place: pathlib.Path, member: str = "") -> pathlib.Path:
    tree = Tree(str(place / "work/tree"))
    with Archive.open(str(place / "archive")) as archive:
        if member:
            archive.extract(member, tree, "x", None, None)
        else:
            archive.extract_all(tree)
    tree.finish()
    return place / "work/tree"


#: Each of these would write outside, or make a link that leads there.
ATTACKS: dict[str, Entries] = {
    "through a link": [("d", "->../../outside"), ("d/file", "evil")],
    "through a chain of links": [("a", "->."), ("a/b", "->.."), ("a/b/c", "->.."), ("a/b/c/outside/file", "evil")],
    "through a link to a link": [("d/one", "->.."), ("two", "->d/one/.."), ("two/outside/file", "evil")],
    "a link over a directory": [("d/file", "x"), ("d", "->../../outside"), ("d/file", "evil")],
    "a link that ends outside because another is shallow": [("p/q/r/s", "->../../.."), ("t", "->p/q/r/s/../x")],
    "the same in two steps": [("p/q/r/s", "->../../.."), ("u", "->p/q/r/s"), ("t", "->u/../../outside")],
    "dots": [("../outside/file", "evil")],
    "dots in the middle": [("a/../../outside/file", "evil")],
    "a link upwards": [("a", "->..")],
    "a link far upwards": [("a/b/c", "->../../../outside/file")],
    "a link in a circle": [("a", "->b"), ("b", "->a")],
    "a link to itself": [("a", "->a/b")],
    "a file in the place of a link": [("d", "->e"), ("d/x", "y")],
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_is_written_outside(place: pathlib.Path, kind: str, attack: str) -> None:
    MAKERS[kind](place / "archive", ATTACKS[attack])
    with pytest.raises(AssetError):
        unpack(place)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_nor_where_only_a_part_is_taken(place: pathlib.Path, kind: str, attack: str) -> None:
    MAKERS[kind](place / "archive", [(f"rel/{name}", content) for name, content in ATTACKS[attack]])
    with pytest.raises(AssetError):
        unpack(place, "rel/")


@pytest.mark.parametrize("kind", ["tar", "zip", "cpio"])
def test_absolute_links_of_a_package_lead_to_places_in_it(place: pathlib.Path, kind: str) -> None:
    MAKERS[kind](
        place / "archive",
        [("lib/here", "content"), ("usr/lib/there", "->/lib/here"), ("usr/build", "->/usr/src/missing")],
    )
    tree = unpack(place)
    assert (tree / "usr/lib/there").read_text() == "content"
    assert os.readlink(tree / "usr/lib/there") == "../../lib/here"
    assert not os.path.exists(tree / "usr/build")


def test_an_absolute_link_that_is_asked_for_is_refused(place: pathlib.Path) -> None:
    make_tar(place / "archive", [("rel/a", "->/etc/passwd")])
    with pytest.raises(AssetError, match="leads outside"):
        unpack(place, "rel/")


@pytest.mark.parametrize("without_python", [False, True])
@pytest.mark.parametrize("attack", ATTACKS)
def test_older_pythons_have_no_filter_of_their_own(
    place: pathlib.Path, attack: str, without_python: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without_python:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    make_tar(place / "archive", ATTACKS[attack])
    with pytest.raises(AssetError):
        unpack(place)


def test_links_within_are_kept_and_followed(place: pathlib.Path) -> None:
    entries = [
        ("bin/vmm", "program"),
        ("bin/now", "->vmm"),
        ("latest", "->bin"),
        ("hard", "=>bin/vmm"),
        ("far/a", "->../latest/now"),
    ]
    make_tar(place / "archive", entries)
    tree = unpack(place)
    assert (tree / "far/a").read_text() == "program"
    assert (tree / "hard").read_text() == "program" and not (tree / "hard").is_symlink()
    # A member is found through links of the archive too.
    with Archive.open(str(place / "archive")) as archive:
        part = Tree(str(place / "work/tree"))
        archive.extract("latest/now", part, "copy", 0o755, None)
    assert (tree / "copy").read_text() == "program"
    assert (tree / "copy").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "links",
    [["->b", "->a"], ["->a", "->a"], ["->../x", "->a"], ["->/etc/passwd", "->a"], ["=>b", "=>a"], ["->c", "->a"]],
)
def test_links_of_the_archive_that_lead_nowhere(place: pathlib.Path, links: list[str]) -> None:
    make_tar(place / "archive", [("a", links[0]), ("b", links[1])])
    with pytest.raises(AssetError, match="leads"):
        unpack(place, "a")


@pytest.mark.parametrize("arrow", ["->", "=>"])
def test_a_long_chain_of_links_is_an_error_with_a_type(place: pathlib.Path, arrow: str) -> None:
    make_tar(place / "archive", [("0", "end"), *((str(number), f"{arrow}{number - 1}") for number in range(1, 1500))])
    with pytest.raises(AssetError, match="leads nowhere"):
        unpack(place, "1499")
    with pytest.raises(AssetError):
        unpack(place)


def test_where_links_lead(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "up").symlink_to("a/b/../..")
    (tmp_path / "over").symlink_to("a/b/../../..")
    (tmp_path / "a/b/deep").symlink_to("../../a")
    assert leads_inside(str(tmp_path), "up/a/b") and leads_inside(str(tmp_path), "a/b/deep/b/deep/nothing")
    assert not leads_inside(str(tmp_path), "over") and not leads_inside(str(tmp_path), "up/..")
    assert not leads_inside(str(tmp_path), "a/b/deep/../..")


# --- size ------------------------------------------------------------------------------------------------------------------


def test_a_zip_that_expands_without_end(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        archives.Limit,
        "__init__",
        lambda self, path, size, most=0: self.__dict__.update(path=path, most=most or 5 << 20, taken=0),
    )
    with zipfile.ZipFile(place / "archive", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("zeros", bytes(6 << 20))
    with pytest.raises(AssetError, match="must have at most 5 MiB"):
        unpack(place)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, bz2.compress])
def test_a_tar_that_expands_without_end(place: pathlib.Path, compress: object) -> None:
    make_tar(place / "archive", [("zeros", "\0" * (6 << 20))])
    (place / "archive").write_bytes(compress((place / "archive").read_bytes()))  # type: ignore[operator]
    with pytest.raises(AssetError, match="must have at most 5 MiB"), Archive.open(str(place / "archive"), 5 << 20):
        pass
    (place / "work/tree/zeros").unlink(missing_ok=True)
    assert unpack(place).joinpath("zeros").stat().st_blocks == 0


def test_a_directory_of_a_zip_that_is_larger_than_memory(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_formats, "MOST_AT_ONCE", 20000)
    make_zip(place / "archive", [(f"{number:0200}", "") for number in range(100)])
    with pytest.raises(AssetError, match="must be a complete archive") as caught:
        unpack(place)
    assert "at once" in caught.value.answer


def test_a_header_of_a_tar_that_is_larger_than_memory(place: pathlib.Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    (place / "archive").write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    os.truncate(place / "archive", 2 * archive_formats.MOST_AT_ONCE)
    with pytest.raises(AssetError, match="must be a complete archive") as caught:
        unpack(place)
    assert "at once" in caught.value.answer


def test_a_header_that_a_library_reads_in_small_parts_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the tarfile of Python 3.14.10 does, which joins the parts. What follows a seek is another header, or content."""
    monkeypatch.setattr(archive_formats, "MOST_AT_ONCE", 10)
    with tempfile.TemporaryFile() as stream:
        stream.write(bytes(100))
        bounded = archive_formats.Bounded(stream)
        for place in (0, 50):
            bounded.seek(place)
            assert len(bounded.read(6)) == 6
        with pytest.raises(ValueError, match="at once"):
            bounded.read(6)


@pytest.mark.parametrize("kind", MAKERS)
def test_too_many_members(place: pathlib.Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_formats, "MOST_MEMBERS", 50)
    MAKERS[kind](place / "archive", [(str(number), "") for number in range(51)])
    with pytest.raises(AssetError, match="must be a complete archive") as caught:
        unpack(place)
    assert "more than 50 members" in caught.value.answer


def test_holes_stay_holes(place: pathlib.Path) -> None:
    """1 MiB of data in an image of 1500 MiB, by GNU tar's -S."""
    image = place / "work/tree/image"
    with open(image, "wb") as stream:
        stream.truncate(1500 << 20)
        stream.seek(700 << 20)
        stream.write(os.urandom(1 << 20))
    subprocess.run(["tar", "-S", "-C", str(image.parent), "-cf", str(place / "archive"), "image"], check=True)
    assert (place / "archive").stat().st_size < 2 << 20
    image.unlink()
    made = unpack(place) / "image"
    assert made.stat().st_size == 1500 << 20
    assert made.stat().st_blocks * 512 <= 2 << 20


def test_a_zip_with_a_password_and_one_that_is_damaged(place: pathlib.Path) -> None:
    make_zip(place / "archive", [("a", "content")])
    data = bytearray((place / "archive").read_bytes())
    encrypted = bytearray(data)
    encrypted[6] |= 1
    encrypted[data.index(b"PK\x01\x02") + 8] |= 1
    (place / "archive").write_bytes(encrypted)
    with pytest.raises(AssetError, match="damaged"):
        unpack(place)
    data[data.index(b"content")] ^= 1
    (place / "archive").write_bytes(data)
    with pytest.raises(AssetError, match="damaged"):
        unpack(place)


def test_modes_are_what_the_code_says_whatever_the_umask(place: pathlib.Path) -> None:
    make_tar(place / "archive", [("a/b/file", "x")])
    for umask in (0o000, 0o077):
        before = os.umask(umask)
        try:
            tree = unpack(place)
        finally:
            os.umask(before)
        assert [(tree / name).stat().st_mode & 0o7777 for name in ("a", "a/b", "a/b/file")] == [0o755, 0o755, 0o644]
        (tree / "a/b/file").unlink()
        (tree / "a/b").rmdir()
        (tree / "a").rmdir()


# --- whatever is in it ---------------------------------------------------------------------------------------------------------


def seeds(directory: pathlib.Path) -> list[bytes]:
    entries = [("a/one", "content " * 20), ("a/two", "->one"), ("a/three", "->../a/one"), ("b", "x" * 600)]
    made = []
    for number, (kind, make) in enumerate(MAKERS.items()):
        path = directory / f"seed-{number}"
        make(path, entries + ([("a/hard", "=>a/one")] if kind == "tar" else []))
        made.append(path.read_bytes())
        path.unlink()
    with tarfile.open(directory / "pax", "w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("n" * 150)
        entry.pax_headers = {"comment": "c" * 20, "size": "5"}
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"12345"))
    made.append((directory / "pax").read_bytes())
    (directory / "pax").unlink()
    with open(directory / "sparse", "wb") as stream:
        stream.truncate(100_000)
        stream.seek(50_000)
        stream.write(b"data")
    for form in ("gnu", "posix"):
        output = subprocess.run(
            ["tar", "-S", f"--format={form}", "-C", str(directory), "-cf", "-", "sparse"],
            capture_output=True,
            check=True,
        )
        made.append(output.stdout[:4096])
    (directory / "sparse").unlink()
    return made


def test_whatever_is_in_an_archive_the_error_is_typed(tmp_path: pathlib.Path) -> None:
    chance = random.Random(1010)
    originals = seeds(tmp_path)
    path, outcomes = tmp_path / "archive", set()
    for number in range(4000):
        data = bytearray(originals[number % len(originals)])
        for _change in range(chance.randint(1, 6)):
            place = chance.randrange(len(data))
            data[place] = chance.choice([chance.randrange(256), ord("7"), 0x80, 0xFF, 0, ord("-")])
        if originals[number % len(originals)][257:262] == b"ustar" and number % 2:
            _correct_sum(data)
        if number % 5 == 0:
            data = data[: chance.randrange(len(data))]
        path.write_bytes(data)
        tree = tmp_path / "tree"
        tree.mkdir()
        started = time.monotonic()
        try:
            with Archive.open(str(path), 64 << 20) as archive:
                target = Tree(str(tree))
                archive.extract_all(target)
                target.finish()
            outcomes.add("taken")
        except HypervisorError as problem:
            assert isinstance(problem, (AssetError, HostError))
            outcomes.add(type(problem).__name__)
        except OSError as problem:
            outcomes.add(
                f"errno {problem.errno}"
            )  # A name that the file system does not take; the store turns it into a typed error.
            assert problem.errno is not None
        assert time.monotonic() - started < PATIENCE
        assert set(os.listdir(tmp_path)) == {"archive", "tree"}
        remove(tree)
    assert {"taken", "AssetError"} <= outcomes


def _correct_sum(data: bytearray) -> None:
    """The checksum of the first header of a tar, so that the change in it is looked at."""
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])


def remove(tree: pathlib.Path) -> None:
    for folder, folders, files in os.walk(tree, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                (os.unlink if os.path.islink(path) else os.rmdir)(path)
    tree.rmdir()


def test_zlib_is_what_a_zip_uses() -> None:
    """The error that a damaged zip raises is among those that are caught."""
    assert zlib.error in archive_formats.PROBLEMS
