# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled copy of this collection that a host keeps, so that not every task has to bring and compile it.

It is a cache and nothing more: named by the digest of its files, complete or not there at all, used only where nobody but the task's own
user could have written it, and removed when nobody has used it for a week. Its files are compared with what was installed once after each boot, and
whenever a module fails in a way that no module should: what a power loss or a disk has damaged is removed, and installed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import sys
import time
from typing import Mapping

ROOT = "/var/cache/kata-hypervisor/engine"
PLUGINS = "ansible_collections.kata.hypervisor.plugins"
#: What an engine consists of, below the collection's plugins.
PACKAGES = ("modules", "module_utils")
#: After this many seconds without use a copy is removed.
UNUSED_SECONDS = 7 * 86400.0
#: Beside the packages: what all files of the copy come to, compiled ones included.
CONTENTS = "contents.sha256"
#: Where it is noted, until the next boot, that a copy was compared with what was installed.
NOTES = "/run/kata-hypervisor"
#: How exactly it is known when a copy was used last, seconds.
USE_SECONDS = 3600.0


def digest_of(files: Mapping[str, bytes]) -> str:
    """What files come to, by path: the same for the same files, whenever and wherever they lie."""
    digest = hashlib.sha256()
    for path, content in sorted(files.items()):
        digest.update(f"{path} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def archive_of(files: Mapping[str, bytes]) -> bytes:
    """The files in a zip archive: the same files give the same bytes."""
    # Not every task comes here.
    import io
    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path), files[path], zipfile.ZIP_DEFLATED)
    return stream.getvalue()


class EngineCopy:
    """One version of the collection on this host.

    :param digest: see `digest_of`
    :param root: the directory of all versions
    :param notes: see `NOTES`
    """

    def __init__(self, digest: str, root: str = ROOT, notes: str = NOTES) -> None:
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ValueError(f"not a SHA-256 digest: {digest!r}")
        self.digest = digest
        self.root = root
        self.path = os.path.join(root, digest)
        self._note = os.path.join(notes, f"engine-{digest[:16]}")

    def is_usable(self) -> bool:
        """Whether it is there, nobody else could have written it, and it was not damaged when this was last looked at.

        Nobody else can enter it, and all directories above it are closed to other writers; so what is imported is what was looked at.
        """
        if not (_is_ours_alone(self.path, 0o077) and self.is_possible()):
            return False
        return os.path.exists(self._note) or self.is_intact()

    def is_possible(self) -> bool:
        """Whether a copy can be kept here: what is there of the directories belongs to nobody else, and is closed to other writers."""
        return _is_closed(self.root) and (not os.path.lexists(self.root) or _is_ours_alone(self.root, 0o022))

    def is_intact(self) -> bool:
        """Whether its files are those that were installed; takes some hundredths of a second. One that is not is removed."""
        try:
            with open(os.path.join(self.path, CONTENTS), "rb") as stream:
                recorded = stream.read(100).decode("ascii", "replace")
            intact = recorded == digest_of(files_of(self.path))
        except OSError:
            intact = False
        if not intact:
            self.remove()
            return False
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self._note), mode=0o700, exist_ok=True)
            os.close(os.open(self._note, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        return True

    def remove(self) -> None:
        """Remove this copy. Tasks that run from it find the one that is installed next in its place."""
        with contextlib.suppress(OSError):
            os.unlink(self._note)
        # Moved aside first, so that nobody finds half of it.
        aside = os.path.join(self.root, f".new-removed-{os.getpid()}-{time.time_ns()}")
        with contextlib.suppress(OSError):
            os.rename(self.path, aside)
        if os.path.islink(aside):
            os.unlink(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def enter(self) -> None:
        """Let Python find the collection's modules in it from now on."""
        now = time.time()
        with contextlib.suppress(OSError):
            if now - os.stat(self.path).st_mtime > USE_SECONDS:
                os.utime(self.path, (now, now))
        # Packages that are imported already, such as the one with this file, have a path of their own.
        for name, package in list(sys.modules.items()):
            parts = name[len(PLUGINS) + 1 :].split(".")
            if name.startswith(f"{PLUGINS}.") and parts[0] in PACKAGES and hasattr(package, "__path__"):
                package.__path__ = [os.path.join(self.path, *parts), *package.__path__]


def files_of(directory: str) -> dict[str, bytes]:
    """The files of a copy, without the note of what they come to."""
    files = {}
    for folder, _folders, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.relpath(path, directory) != CONTENTS:
                with open(path, "rb") as stream:
                    files[os.path.relpath(path, directory)] = stream.read()
    return files


def _is_ours_alone(path: str, others: int) -> bool:
    """Whether a directory is ours, and others may not do what these bits of its mode say."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & others


def _is_closed(path: str) -> bool:
    """Whether nobody else can exchange a directory or one above it, as `untrusted_files.check_parents` says; that takes longer to load."""
    for start in (path, os.path.realpath(path)):
        current = os.path.dirname(start)
        while True:
            try:
                found = os.lstat(current)
            except FileNotFoundError:
                current = os.path.dirname(current)
                continue
            if found.st_uid not in (0, os.geteuid()):
                return False
            # In a directory with the sticky bit nobody moves what is ours; a link's mode says nothing.
            if (
                not stat.S_ISLNK(found.st_mode)
                and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
                and not found.st_mode & stat.S_ISVTX
            ):
                return False
            if current == "/":
                break
            current = os.path.dirname(current)
    return True
