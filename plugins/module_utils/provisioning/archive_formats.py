# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List the members of tar, zip and cpio archives. Nothing here writes files.

An archive is not trusted: the sizes and offsets in it are checked, and the description of its members is limited.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import stat
import tarfile
import zipfile
import zlib
from typing import IO, Callable, Iterator, NamedTuple

from ..errors import AssetError

#: How many members an archive may have; the largest kernel packages have 10,000.
MOST_MEMBERS = 100_000
#: How many bytes may be read at once, such as the directory of a zip, in one part or in several.
MOST_AT_ONCE = 32 << 20
#: The longest target of a link, bytes (PATH_MAX).
MOST_TARGET = 4096
_CPIO = (b"070701", b"070702")

#: What the standard library raises for invalid archives.
PROBLEMS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    NotImplementedError,
    RuntimeError,  # RecursionError too; zipfile also raises it for members with a password.
    MemoryError,
)

FILE, LINK, HARD_LINK, DIRECTORY = "file", "link", "hard link", "directory"


class Member(NamedTuple):
    """One member of an archive.

    :param name: its normalized path, which never begins with `..`
    :param kind: `FILE`, `LINK`, `HARD_LINK` or `DIRECTORY`
    :param target: the target of a link, unchanged; the name of another member for a hard link
    :param size: size of a file in bytes, according to the archive
    :param open: opens the content of a file
    :param sparse: whether the archive stores the file as a sparse one (GNU tar's -S)
    """

    name: str
    kind: str
    mode: int = 0o644
    target: str = ""
    size: int = 0
    open: Callable[[], IO[bytes]] | None = None
    sparse: bool = False


class Bounded:
    """A file that limits how much a library can read at once, whatever size an archive names."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._in_a_row = 0
        self.mode = "rb"

    def read(self, size: int | None = -1) -> bytes:
        """Read at most `MOST_AT_ONCE` bytes between two calls of `seek`.

        :raises ValueError: more are requested
        """
        if size is None or size < 0:
            size = max(0, os.fstat(self._stream.fileno()).st_size - self._stream.tell())
        needed = self._in_a_row + size
        if needed > MOST_AT_ONCE:
            raise ValueError(f"the archive must not need more than {MOST_AT_ONCE} bytes at once, and needs {needed}")
        found = self._stream.read(size)
        self._in_a_row += len(found)
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file's."""
        self._in_a_row = 0
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """As a file's."""
        return self._stream.tell()

    def seekable(self) -> bool:
        """As a file's."""
        return True

    def close(self) -> None:
        """Do nothing: the caller that opened the file closes it."""


@contextlib.contextmanager
def opened(stream: IO[bytes], path: str) -> Iterator[dict[str, Member]]:
    """The members of an archive of any kind, by name. The last one with a name counts. Devices and other special files are omitted.

    :param stream: a file with the archive, not compressed
    :param path: its path, for errors
    :raises AssetError: it is not an archive, has too many members, or the name of a member leads out of it
    """
    with contextlib.ExitStack() as stack:
        try:
            stream.seek(0)
            found = _cpio_members(stream) if stream.read(6) in _CPIO else _tar_or_zip(stream, stack)
            members: dict[str, Member] = {}
            for number, member in enumerate(found):
                if number >= MOST_MEMBERS:
                    raise ValueError(f"it has more than {MOST_MEMBERS} members")
                _check_name(member.name)
                members.pop(member.name, None)
                members[member.name] = member
        except PROBLEMS as problem:
            raise AssetError(
                "must be a complete archive", wanted=path, answer=str(problem) or type(problem).__name__
            ) from problem
        yield members


def _check_name(name: str) -> None:
    if name == ".." or name.startswith("../") or "\0" in name:
        raise ValueError(f"the name of a member must not lead out of the archive: {name!r}")


def _normal(name: str) -> str:
    """A member's path, made relative and normalized."""
    return os.path.normpath(name.lstrip("/") or ".")


def _tar_or_zip(stream: IO[bytes], stack: contextlib.ExitStack) -> Iterator[Member]:
    stream.seek(0)
    try:
        tar = stack.enter_context(tarfile.TarFile(fileobj=Bounded(stream), errors="surrogateescape"))  # type: ignore[arg-type]
    except tarfile.TarError as problem:
        stream.seek(0)
        if not zipfile.is_zipfile(stream):
            raise ValueError(f"it must be a tar, zip or cpio archive ({problem})") from problem
        stream.seek(0)
        return _zip_members(stack.enter_context(zipfile.ZipFile(Bounded(stream))))
    return _tar_members(tar)


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    place = -1
    for number in range(MOST_MEMBERS + 1):
        entry = tar.next()
        if entry is None:
            return
        # Negative numbers would lead back and so to an endless loop (CVE-2025-8194).
        if entry.offset <= place or entry.size < 0:
            raise ValueError(f"member {number} has an invalid size or offset")
        place = entry.offset
        name = _normal(entry.name)
        if entry.isreg():
            content = functools.partial(_tar_content, tar, entry)
            yield Member(name, FILE, entry.mode, size=entry.size, open=content, sparse=entry.issparse())
        elif entry.issym():
            yield Member(name, LINK, target=entry.linkname)
        elif entry.islnk():
            yield Member(name, HARD_LINK, target=_normal(entry.linkname))
        elif entry.isdir():
            yield Member(name, DIRECTORY, entry.mode)


def _tar_content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(entry)
    if content is None:
        raise ValueError(f"{entry.name} has no content")
    return content


def _zip_members(zipped: zipfile.ZipFile) -> Iterator[Member]:
    for entry in zipped.infolist():
        name, mode = _normal(entry.filename), entry.external_attr >> 16
        if entry.is_dir():
            yield Member(name, DIRECTORY, mode)
        elif stat.S_ISLNK(mode):
            with zipped.open(entry) as content:
                yield Member(name, LINK, target=_target(content.read(MOST_TARGET + 1)))
        else:
            yield Member(name, FILE, mode, size=entry.file_size, open=functools.partial(zipped.open, entry))


def _target(data: bytes) -> str:
    if len(data) > MOST_TARGET:
        raise ValueError("a link's target is too long")
    return data.decode("utf-8", "surrogateescape")


def _cpio_members(stream: IO[bytes]) -> Iterator[Member]:
    """The members of cpio's format `newc` (the kernel's buffer-format.rst); only one of the names of a file has its content."""
    size_of_all = os.fstat(stream.fileno()).st_size
    place = 0
    several: dict[tuple[int, ...], str] = {}
    waiting: list[tuple[tuple[int, ...], Member]] = []
    while True:
        stream.seek(place)
        header = stream.read(110)
        if len(header) < 110 or header[:6] not in _CPIO:
            raise ValueError(f"there is no header at {place}")
        inode, mode, _uid, _gid, links, _time, size, *device, _rmajor, _rminor, name_size, _check = (
            int(header[start : start + 8], 16) for start in range(6, 110, 8)
        )
        if not 0 < name_size <= MOST_TARGET or min(size, mode, links) < 0:
            raise ValueError(f"the header at {place} has invalid numbers")
        raw = stream.read(name_size).rstrip(b"\0").decode("utf-8", "surrogateescape")
        begin = (place + 110 + name_size + 3) & ~3
        if begin + size > size_of_all:
            raise ValueError("it ends too early")
        if raw == "TRAILER!!!":
            break
        place = (begin + size + 3) & ~3
        name = _normal(raw)
        if stat.S_ISREG(mode):
            key = (inode, *device)
            member = Member(name, FILE, mode, size=size, open=functools.partial(_part, stream, begin, size))
            if links > 1 and not size:
                waiting.append((key, member))
                continue
            several[key] = name
            yield member
        elif stat.S_ISLNK(mode):
            stream.seek(begin)
            yield Member(name, LINK, target=_target(stream.read(min(size, MOST_TARGET + 1))))
        elif stat.S_ISDIR(mode):
            yield Member(name, DIRECTORY, mode)
    for key, member in waiting:
        yield Member(member.name, HARD_LINK, member.mode, target=several[key]) if key in several else member


def _part(stream: IO[bytes], begin: int, size: int) -> IO[bytes]:
    return io.BufferedReader(_Part(stream, begin, size))


class _Part(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, stream: IO[bytes], begin: int, size: int) -> None:
        self._stream, self._place, self._left = stream, begin, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = os.pread(self._stream.fileno(), min(len(buffer), self._left), self._place)
        buffer[: len(data)] = data
        self._place += len(data)
        self._left -= len(data)
        return len(data)
