# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled copy of this collection, and of what its modules import of Ansible, that a host keeps, so that a task need not send and compile the code.

`kata_engine` is sent without any other file, so each task sends the text of this one too: it imports nothing of the collection, and only when it is used
what takes long to load.

The copy is a cache. It is named by the digest of its files and appears atomically. It is used only if no other user could have written it, and it
is removed after a week without use. Its files are verified once after each boot, and whenever a module fails with an unexpected exception. A copy
that a power loss or a disk has damaged is removed and installed again.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
import types
from collections.abc import Mapping

ROOT = "/var/cache/kata-hypervisor/engine"
PLUGINS = "ansible_collections.kata.hypervisor.plugins"
#: The directories of an engine, below the collection's plugins. Beside them, `ansible` has Ansible's own module_utils.
PACKAGES = ("modules", "module_utils")
#: After this many seconds without use a copy is removed.
UNUSED_SECONDS = 7 * 86400.0
#: The file, beside the packages, with the digest of all files of the copy, compiled ones included.
CONTENTS = "contents.sha256"
#: The directory for notes that a copy was verified. It is emptied by the next boot.
NOTES = "/run/kata-hypervisor"
#: How exactly the time of a copy's last use is recorded, seconds.
USE_SECONDS = 3600.0


def digest_of(files: Mapping[str, bytes]) -> str:
    """A digest of files and their paths. It does not depend on the files' times or directory."""
    import hashlib

    digest = hashlib.sha256()
    for path, content in sorted(files.items()):
        digest.update(f"{path} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def archive_of(files: Mapping[str, bytes]) -> bytes:
    """The files in a zip archive: the same files give the same bytes."""
    # Imported here, since most tasks do not need it.
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
        """Whether the copy exists, no other user could have written it, and it was intact when it was last verified.

        No other user can enter the copy or write to a directory above it, so the files that are imported are those that were verified.
        """
        if not (_is_ours_alone(self.path, 0o077) and self.is_possible()):
            return False
        return os.path.exists(self._note) or self.is_intact()

    def is_possible(self) -> bool:
        """Whether a copy can be kept here: no other user may own or write to the existing directories."""
        return _is_closed(self.root) and (not os.path.lexists(self.root) or _is_ours_alone(self.root, 0o022))

    def is_intact(self) -> bool:
        """Whether the files are those that were installed, which takes some hundredths of a second to verify. A damaged copy is removed."""
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
        """Remove this copy. Tasks that still run from it use the next copy, which is installed at the same path."""
        import shutil

        with contextlib.suppress(OSError):
            os.unlink(self._note)
        # Renamed first, so that no task finds a part of it.
        aside = os.path.join(self.root, f".new-removed-{os.getpid()}-{time.time_ns()}")
        with contextlib.suppress(OSError):
            os.rename(self.path, aside)
        if os.path.islink(aside):
            os.unlink(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def enter(self) -> None:
        """Make Python import the collection's modules and Ansible's module_utils from the copy from now on."""
        now = time.time()
        with contextlib.suppress(OSError):
            if now - os.stat(self.path).st_mtime > USE_SECONDS:
                os.utime(self.path, (now, now))
        sys.path.insert(0, self.path)
        parts = PLUGINS.split(".")
        for number in range(len(parts)):
            name = ".".join(parts[: number + 1])
            package = sys.modules[name] = types.ModuleType(name)
            package.__path__ = [self.path] if name == PLUGINS else []


def files_of(directory: str) -> dict[str, bytes]:
    """The files of a copy, without the file with their digest."""
    files = {}
    for folder, _folders, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.relpath(path, directory) != CONTENTS:
                with open(path, "rb") as stream:
                    files[os.path.relpath(path, directory)] = stream.read()
    return files


def _is_ours_alone(path: str, others: int) -> bool:
    """Whether the user of the task owns a directory, and its mode has none of these bits."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & others


def _is_closed(path: str) -> bool:
    """Whether no other user can exchange a directory or one above it. `untrusted.files.check_parents` does the same, but takes longer to load."""
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
            # In a directory with the sticky bit no other user can rename our entries. The mode of a link has no meaning.
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
