# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives: chosen members of a tar (plain, gzip, bzip2, xz, zstd) or a zip, and nothing outside the directory they are for."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import tempfile
import zipfile
from typing import IO, Iterator, cast

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.compression import ZSTD, decompress_file


class Archive:
    """An open archive.

    :param names: its members, files and links, and for each whether it is a file
    """

    def __init__(self, tar: tarfile.TarFile | None, zipped: zipfile.ZipFile | None) -> None:
        self.tar = tar
        self.zipped = zipped
        self.entries: dict[str, tarfile.TarInfo | zipfile.ZipInfo] = {}
        if tar is not None:
            self.entries = {os.path.normpath(entry.name): entry for entry in tar.getmembers() if entry.isreg() or entry.issym() or entry.islnk()}
        elif zipped is not None:
            self.entries = {os.path.normpath(entry.filename): entry for entry in zipped.infolist() if not entry.is_dir()}

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str) -> Iterator[Archive]:
        """Open one of any kind.

        :raises AssetError: it is none, or truncated
        """
        with contextlib.ExitStack() as stack:
            try:
                with open(path, "rb") as stream:
                    magic = stream.read(4)
                if magic == ZSTD:
                    path = stack.enter_context(_unzstd(path))
                if zipfile.is_zipfile(path) and not tarfile.is_tarfile(path):
                    archive = cls(None, stack.enter_context(zipfile.ZipFile(path)))
                else:
                    archive = cls(stack.enter_context(tarfile.open(path)), None)
            except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError) as problem:
                raise AssetError("this is no archive, or a part of one", wanted=path, answer=str(problem)) from problem
            yield archive

    def extract(self, member: str, path: str, mode: int | None, digests: dict[str, str]) -> None:
        """Write a member to a path: a file, or with a slash at its end all that is below it.

        :param digests: sha256 by member; a file that is in it must have it
        :raises AssetError: there is no such member, it is damaged, or it leads outside
        """
        prefix = os.path.normpath(member)
        if not member.endswith("/"):
            self._extract_file(prefix, path, mode, digests)
            return
        below = [name for name in self.entries if name.startswith(prefix + "/")]
        if not below:
            raise self._missing(member)
        for name in below:
            target = os.path.join(path, os.path.relpath(name, prefix))
            entry = self.entries[name]
            if isinstance(entry, tarfile.TarInfo) and entry.issym():
                _make_link(entry.linkname, target, path)
            else:
                self._extract_file(name, target, mode, digests)

    def checksums(self, member: str) -> dict[str, str]:
        """The digests that a member lists, as C(sha256sum) writes them, by the names of the members they are for.

        :raises AssetError: there is no such member
        """
        folder = os.path.dirname(os.path.normpath(member))
        digests = {}
        for line in self._read(os.path.normpath(member)).read().decode("utf-8", "replace").splitlines():
            digest, _blank, name = line.strip().partition(" ")
            if len(digest) == 64 and name:
                digests[os.path.normpath(os.path.join(folder, name.strip().lstrip("*")))] = digest.lower()
        return digests

    def _extract_file(self, name: str, path: str, mode: int | None, digests: dict[str, str]) -> None:
        if ".." in name.split("/") or os.path.isabs(name):
            raise AssetError("a member leads outside the archive", wanted=name)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        digest = hashlib.sha256()
        try:
            with self._read(name) as source, open(path, "wb") as target:
                while chunk := source.read(1 << 20):
                    digest.update(chunk)
                    target.write(chunk)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError) as problem:
            raise AssetError("the archive is damaged", wanted=name, answer=str(problem)) from problem
        if name in digests and digests[name] != digest.hexdigest():
            raise AssetError("a member has not the digest that the archive's own list gives", wanted=name)
        os.chmod(path, self._mode(name) if mode is None else mode)

    def _read(self, name: str) -> IO[bytes]:
        entry = self.entries.get(name)
        if isinstance(entry, tarfile.TarInfo) and self.tar is not None:
            try:
                stream = self.tar.extractfile(entry)
            except KeyError as problem:
                raise AssetError("a link of the archive leads nowhere", wanted=name) from problem
            if stream is not None:
                return stream
        elif isinstance(entry, zipfile.ZipInfo) and self.zipped is not None:
            return cast("IO[bytes]", io.BytesIO(self.zipped.read(entry)))
        raise self._missing(name)

    def _mode(self, name: str) -> int:
        entry = self.entries[name]
        mode = entry.mode if isinstance(entry, tarfile.TarInfo) else entry.external_attr >> 16
        return 0o755 if mode & 0o111 else 0o644

    def _missing(self, name: str) -> AssetError:
        return AssetError(
            "the archive has no such member",
            option="files",
            wanted=name,
            answer=f"it has {', '.join(sorted(self.entries)[:10])}",
            fix="Nothing was changed. Correct the member's path; {version} and {arch} are filled in.",
        )


def _make_link(target: str, path: str, root: str) -> None:
    """A relative link that stays below a directory.

    :raises AssetError: it would lead outside
    """
    reached = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if os.path.isabs(target) or not reached.startswith(root + "/"):
        raise AssetError("a link of the archive leads outside", wanted=target)
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    os.symlink(target, path)


@contextlib.contextmanager
def _unzstd(path: str) -> Iterator[str]:
    """The tar within, in a temporary file beside it.

    :raises HostError: the host has no zstd
    """
    handle, plain = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".tar-")
    try:
        with os.fdopen(handle, "wb") as stream:
            decompress_file(path, stream)
        yield plain
    finally:
        os.unlink(plain)
