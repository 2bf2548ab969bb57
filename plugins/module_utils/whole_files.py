# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are there whole, the old one or the new one."""

from __future__ import annotations

import os
import tempfile


def replace_file(path: str, data: bytes, mode: int = 0o644) -> None:
    """Have these bytes in a file, durably. When it fails, what was there still is, and nothing else.

    :raises OSError: it cannot be written
    """
    descriptor, draft = tempfile.mkstemp(prefix=f".{os.path.basename(path)}-", dir=os.path.dirname(path))
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
