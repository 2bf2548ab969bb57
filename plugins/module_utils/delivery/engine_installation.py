# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install a copy of the collection (see `engine_copy.py`).

This is a file of its own since every task loads `engine_copy.py`, and hardly any task installs a copy.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import shutil
import time
import zipfile

from ..host.atomic_files import draft_directory, ensure_directory, put_in_place, replace_file
from .engine_copy import CONTENTS, UNUSED_SECONDS, EngineCopy, digest_of, files_of


def install(copy: EngineCopy, archive: str) -> None:
    """Create the copy from a zip archive of its files, and compile them for this Python.

    :raises OSError: the copy cannot be written
    :raises ValueError: this is not a zip archive, or it contains other files
    """
    parent = os.path.dirname(copy.root)
    if os.path.basename(parent) == "kata-hypervisor":
        ensure_directory(parent)
    ensure_directory(copy.root)
    if not copy.is_possible():
        raise PermissionError(f"{copy.root} and the directories above it must not be writable by other users")
    with draft_directory(copy.root) as work:
        draft = os.path.join(work, "engine")
        os.mkdir(draft, 0o700)
        try:
            with zipfile.ZipFile(archive) as source:
                found = digest_of({name: source.read(name) for name in source.namelist()})
                if found != copy.digest:
                    raise ValueError(f"the digest of the archive's files must be {copy.digest}, not {found}")
                source.extractall(draft)
        except zipfile.BadZipFile as problem:
            raise ValueError(str(problem)) from problem
        compileall.compile_dir(draft, quiet=2)
        replace_file(os.path.join(draft, CONTENTS), digest_of(files_of(draft)).encode(), 0o600)
        try:
            put_in_place(draft, copy.path)
        except OSError as problem:
            # Another task was faster: rename(2) fails with ENOTEMPTY if the directory exists.
            if not os.path.isdir(copy.path):
                raise problem
    _drop_unused(copy)


def _drop_unused(copy: EngineCopy) -> None:
    for name in os.listdir(copy.root):
        path = os.path.join(copy.root, name)
        with contextlib.suppress(OSError):
            if (
                path != copy.path
                and not name.startswith(".")
                and time.time() - os.lstat(path).st_mtime > UNUSED_SECONDS
            ):
                shutil.rmtree(path)
