# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of this collection a host keeps: the controller's side of C(module_utils/engine_copy.py)."""

from __future__ import annotations

import io
import pathlib
import zipfile

from ansible_collections.kata.hypervisor.plugins.module_utils.engine_copy import PACKAGES

PLUGINS = pathlib.Path(__file__).resolve().parents[1]


def engine_files() -> dict[str, bytes]:
    """The files of an engine, by path below the collection's plugins."""
    paths = [path for package in PACKAGES for path in (PLUGINS / package).rglob("*.py")]
    return {path.relative_to(PLUGINS).as_posix(): path.read_bytes() for path in paths}


def engine_archive(files: dict[str, bytes]) -> bytes:
    """The files in a zip archive: the same files give the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path), files[path], zipfile.ZIP_DEFLATED)
    return stream.getvalue()
