# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch the source of an asset and verify its digest. A private copy is verified, and that copy is used."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
from typing import Callable

from ..errors import AssetError, ConfigError
from ..host.digests import ALGORITHMS, file_digest
from ..host.sparse_files import Writer
from .urls import Access, shown

CHUNK = 1 << 20
#: ioctl_ficlone(2): a copy that shares the blocks, where the file system can.
_FICLONE = 0x40049409

#: Brings the source to a directory of ours, verified; its path there.
Fetch = Callable[[str], str]


class Checksum:
    """The digest that a source must have."""

    def __init__(self, algorithm: str, digest: str) -> None:
        self.algorithm = algorithm
        self._digest = digest

    @classmethod
    def parse(cls, text: str, url: str = "", access: Access | None = None) -> Checksum:
        """From `ALGORITHM:DIGEST`, or `ALGORITHM:URL` of a list of digests.

        :param url: of the source, whose name is looked up in a list
        :param access: how the list is asked for
        :raises ConfigError: it is neither
        """
        algorithm, _colon, digest = text.strip().partition(":")
        algorithm = algorithm.lower()
        fix = f"Give {', '.join(f'{name}:' for name in ALGORITHMS)} and the digits, or the URL of a list."
        if algorithm in ALGORITHMS and re.match("https?://", digest, re.IGNORECASE):
            if not url:
                raise ConfigError(
                    "a list of digests must be given with url, whose file is looked up in it",
                    option="checksum",
                    wanted=shown(text),
                )
            return ListedChecksum(algorithm, digest, url, access or Access())
        if len(digest) != ALGORITHMS.get(algorithm, -1) or not re.fullmatch(r"[0-9a-fA-F]+", digest):
            raise ConfigError("must be a checksum", option="checksum", wanted=shown(text), fix=fix)
        return cls(algorithm, digest.lower())

    @property
    def digest(self) -> str:
        """In hexadecimal.

        :raises AssetError: it comes from a list that cannot be had, or does not have it
        """
        return self._digest

    @property
    def recorded(self) -> str:
        """What a manifest keeps of it, to see whether a task asks for the same."""
        return f"{self.algorithm}:{self.digest}"

    def check(self, path: str) -> None:
        """Compare a file's digest.

        :raises AssetError: it has another one
        """
        found = file_digest(path, self.algorithm)
        if found != self.digest:
            raise AssetError(
                f"the source has the {self.algorithm} digest {found}, so it is not what was asked for",
                option="checksum",
                wanted=self.digest,
                fix="Nothing was changed. Get the right file, or correct the checksum.",
            )


class ListedChecksum(Checksum):
    """A digest that a list has; the list is only asked for when the digest is needed."""

    def __init__(self, algorithm: str, list_url: str, url: str, access: Access) -> None:
        super().__init__(algorithm, "")
        self._list_url, self._url, self._access = list_url, url, access

    @property
    def digest(self) -> str:
        if not self._digest:
            self._digest = self._find()
        return self._digest

    @property
    def recorded(self) -> str:
        return f"{self.algorithm}:{shown(self._list_url)}"

    def _find(self) -> str:
        from urllib.parse import unquote, urlsplit

        from . import sums
        from .downloads import fetch_text

        name = os.path.basename(unquote(urlsplit(self._url).path))
        listed = sums.parse(fetch_text(self._list_url, sums.MOST_BYTES, self._access, "checksum"))
        found = sums.digests_of(listed, name).get(self.algorithm) if name else None
        if not found:
            raise AssetError(
                f"the list has no {self.algorithm} digest of {name}",
                option="checksum",
                wanted=shown(self._list_url),
                answer=f"it lists {', '.join(line.name or line.digest for line in listed[:10])}"
                if listed
                else "it lists no digests",
                fix="Nothing was changed. Name the right list and algorithm, or give the digest itself.",
            )
        return found


def fetch_from(
    url: str, source: str, root: str, checksum: Checksum | None, seconds: float = 0, access: Access | None = None
) -> Fetch:
    """A function that fetches the source and verifies its checksum. A file of the host is copied; a URL is downloaded, and resumed if it broke off.

    :param seconds: time limit after which `downloads.Unfinished` is raised; 0 for none
    """

    def fetch(work: str) -> str:
        target = os.path.join(work, "source")
        if source:
            copy_file(source, target)
            if checksum:
                checksum.check(target)
            return target
        if not url:
            raise AssetError(
                "it is not installed undamaged, and neither url nor src is given to get it from", option="url"
            )
        from .downloads import download

        # By what it should be, so that a broken download is continued by the next run of the same task and by no other.
        key = checksum.digest if checksum else hashlib.sha256(shown(url).encode()).hexdigest()
        partial = os.path.join(root, f".download-{key[:32]}")
        download(url, partial, resume=checksum is not None, seconds=seconds, access=access)
        os.rename(partial, target)
        if checksum:
            checksum.check(target)
        return target

    return fetch


def copy_file(source: str, target: str, mode: int = 0o600) -> None:
    """Copy a regular file into a new sparse one.

    :raises AssetError: the file does not exist, or it cannot be read
    :raises OSError: the copy cannot be written
    """
    try:
        reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as problem:
        raise AssetError(
            "the file does not exist on the host or cannot be read", option="src", wanted=source, answer=str(problem)
        ) from problem
    with open(reading, "rb") as stream:
        if not stat.S_ISREG(os.fstat(reading).st_mode):
            raise AssetError(
                "the file does not exist on the host: it must be a regular file", option="src", wanted=source
            )
        writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(writing, mode)
            with contextlib.suppress(OSError):
                fcntl.ioctl(writing, _FICLONE, reading)
                return
            writer = Writer(writing)
            while chunk := stream.read(CHUNK):
                writer.write(chunk)
            writer.finish()
        finally:
            os.close(writing)
