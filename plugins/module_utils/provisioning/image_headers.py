# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the other files that an image names in its header, before a program opens the image and these files (vmdk.c of QEMU; `qcow2.py`)."""

from __future__ import annotations

import re

from ..host.qcow2 import named_files
from ..untrusted.answers import printable

#: How many bytes are searched for a descriptor.
HEAD = 1 << 20


def other_file(path: str, image_format: str) -> str:
    """The other files that an image names, as a text; empty for none.

    :raises NotQcow2: it is not an image of that format
    :raises OSError: it cannot be read
    """
    with open(path, "rb") as stream:
        if image_format == "qcow2":
            return " and ".join(named_files(stream.fileno()))
        return _of_vmdk(stream.read(HEAD)) if image_format == "vmdk" else ""


def _of_vmdk(head: bytes) -> str:
    if head[:4] == b"COWD" or (head[:4] == b"KDMV" and any(head[12:20])):
        return ""
    # A descriptor, alone or after a header without a capacity, names the files with the content.
    if head[:4] != b"KDMV" and b"# Disk DescriptorFile" not in head[:2048]:
        return ""
    extent = re.search(rb'^(?:RW|RDONLY|NOACCESS)[ \t]+\d+[ \t]+\w+[ \t]+"([^"\n]{1,1023})"', head, re.MULTILINE)
    return _text(extent[1]) if extent else "files that its descriptor names"


def _text(data: bytes) -> str:
    return printable(data.decode("utf-8", "replace"))
