# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled copy of this collection that a host keeps, so that not every task has to bring and compile it.

It is a cache and nothing more: named by the digest of its files, made whole or not at all, used only where nobody but the task's own
user could have written it, and removed when nobody has used it for a week.
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

    :param digest: see L(digest_of)
    :param root: the directory of all versions
    """

    def __init__(self, digest: str, root: str = ROOT) -> None:
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ValueError(f"not a SHA-256 digest: {digest!r}")
        self.digest = digest
        self.root = root
        self.path = os.path.join(root, digest)

    def is_usable(self) -> bool:
        """Whether it is there, and nobody else could have written it."""
        return all(_is_ours_alone(path) for path in (self.root, self.path))

    def install(self, archive: str) -> None:
        """Make it from a zip archive of its files, compiled for this Python.

        :raises OSError: it cannot be written
        :raises ValueError: the archive is none, or holds something else
        """
        # Not every task comes here.
        import compileall
        import tempfile
        import zipfile

        os.makedirs(self.root, mode=0o755, exist_ok=True)
        draft = tempfile.mkdtemp(prefix=".new-", dir=self.root)
        try:
            with zipfile.ZipFile(archive) as source:
                found = digest_of({name: source.read(name) for name in source.namelist()})
                if found != self.digest:
                    raise ValueError(f"the archive's files come to {found}, not to {self.digest}")
                source.extractall(draft)
            compileall.compile_dir(draft, quiet=2)
            os.rename(draft, self.path)
        except zipfile.BadZipFile as problem:
            raise ValueError(str(problem)) from problem
        except OSError as problem:
            # Another task was faster: rename(2) says ENOTEMPTY of a directory that is there.
            if not os.path.isdir(self.path):
                raise problem
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self._drop_unused()

    def enter(self) -> None:
        """Let Python find the collection's modules in it from now on."""
        now = time.time()
        with contextlib.suppress(OSError):
            if now - os.stat(self.path).st_mtime > USE_SECONDS:
                os.utime(self.path, (now, now))
        for name in PACKAGES:
            package = sys.modules[f"{PLUGINS}.{name}"]
            package.__path__ = [os.path.join(self.path, name), *package.__path__]

    def _drop_unused(self) -> None:
        for name in os.listdir(self.root):
            path = os.path.join(self.root, name)
            with contextlib.suppress(OSError):
                if path != self.path and time.time() - os.lstat(path).st_mtime > UNUSED_SECONDS:
                    shutil.rmtree(path)


def _is_ours_alone(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
