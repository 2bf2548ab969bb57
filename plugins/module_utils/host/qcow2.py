# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse disks that cannot be used, such as qcow2 images that name other files in their header (QEMU's docs/interop/qcow2.txt).

The author of an image decides which files its header names, and a VMM opens them. So an image that names another file is never attached.
"""

from __future__ import annotations

import os
import stat
import struct

from ..errors import AssetError
from ..untrusted.answers import printable

MAGIC = b"QFI\xfb"
VERSIONS = (2, 3)
#: The length of the header in version 2, and its minimum length in version 3, bytes.
HEADER_V2, HEADER_V3 = 72, 104
#: log2 of the size of a cluster; the header and its extensions lie in the first one.
CLUSTER_BITS = range(9, 22)
#: The incompatible feature of an image whose data is in another file.
EXTERNAL_DATA_FILE = 1 << 2
#: Types of header extensions: the end, and the name of the external data file.
END, DATA_FILE_NAME = 0, 0x44415441
#: The longest name of a backing file, bytes.
LONGEST_NAME = 1023


class NotQcow2(ValueError):
    """The header is not one of a qcow2 image, or it contradicts itself."""


def named_files(descriptor: int) -> list[str]:
    """The other files that an open qcow2 image names, each with its role; empty for an image that needs no other file.

    :raises NotQcow2: this is not a qcow2 image
    :raises OSError: it cannot be read
    """
    header = os.pread(descriptor, HEADER_V3, 0)
    if len(header) < HEADER_V2 or header[:4] != MAGIC:
        raise NotQcow2("it does not start as a qcow2 image")
    version, backing_offset, backing_size, cluster_bits = struct.unpack_from(">IQII", header, 4)
    if version not in VERSIONS:
        raise NotQcow2(f"its version is {version}")
    if cluster_bits not in CLUSTER_BITS:
        raise NotQcow2(f"its cluster size is 2^{cluster_bits}")
    length, features = HEADER_V2, 0
    if version == VERSIONS[1]:
        if len(header) < HEADER_V3:
            raise NotQcow2("its header is cut off")
        features = struct.unpack_from(">Q", header, 72)[0]
        length = struct.unpack_from(">I", header, 100)[0]
    cluster = os.pread(descriptor, 1 << cluster_bits, 0)
    if not (HEADER_V2 if version == VERSIONS[0] else HEADER_V3) <= length <= len(cluster):
        raise NotQcow2(f"its header has {length} bytes")
    found = []
    if backing_offset:
        name = cluster[backing_offset : backing_offset + min(backing_size, LONGEST_NAME)]
        found.append(f"the backing file {_text(name)}")
    data_file = _extension(cluster, length, backing_offset or len(cluster), DATA_FILE_NAME)
    if data_file is not None or features & EXTERNAL_DATA_FILE:
        found.append(f"the data file {_text(data_file or b'')}")
    return found


def virtual_size(descriptor: int) -> int:
    """The size of the disk in an open qcow2 image, bytes.

    :raises NotQcow2: this is not a qcow2 image
    :raises OSError: it cannot be read
    """
    header = os.pread(descriptor, HEADER_V2, 0)
    if len(header) < HEADER_V2 or header[:4] != MAGIC:
        raise NotQcow2("it does not start as a qcow2 image")
    return int(struct.unpack_from(">Q", header, 24)[0])


def disk_size(path: str, image_format: str) -> int:
    """The size of the disk in an image, bytes.

    :raises NotQcow2: its format is qcow2, and it is not a qcow2 image
    :raises OSError: it cannot be read
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        return virtual_size(descriptor) if image_format == "qcow2" else os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


def _extension(cluster: bytes, start: int, end: int, wanted: int) -> bytes | None:
    """The content of the first header extension of a type.

    :raises NotQcow2: an extension reaches beyond the area
    """
    place, end = start, min(end, len(cluster))
    while place + 8 <= end:
        kind, size = struct.unpack_from(">II", cluster, place)
        if kind == END:
            return None
        if size > end - place - 8:
            raise NotQcow2("an extension of its header is cut off")
        if kind == wanted:
            return cluster[place + 8 : place + 8 + size]
        place += 8 + (size + 7) // 8 * 8
    return None


def _text(name: bytes) -> str:
    return printable(name[:LONGEST_NAME].decode("utf-8", "replace")) or "(without a name)"


def check_open_image(descriptor: int, path: str, image_format: str, option: str) -> None:
    """Refuse an open image that would make a VMM open other files. A raw image is not read, since all of its content is the guest's.

    :param option: the task's option that names it
    :raises AssetError: it names another file, or is not of that format
    """
    if image_format != "qcow2":
        return
    try:
        others = named_files(descriptor)
    except (NotQcow2, OSError) as error:
        raise AssetError(
            "must be a qcow2 image",
            option=option,
            wanted=path,
            answer=str(error),
            fix="Set its real format, or use another file.",
        ) from error
    if others:
        raise AssetError(
            "the image must not name other files, which the VMM would open for the guest",
            option=option,
            wanted=path,
            answer=f"it names {' and '.join(others)}",
            fix="Check that these are the files that you mean, and then convert them to one image with qemu-img convert -O qcow2.",
        )


def open_disk(path: str, read_only: bool, option: str, what: str = "disk") -> int:
    """Open a file that a guest gets as a disk. Returns the descriptor. It never blocks, and never opens a device that is not a disk.

    :param what: the role of the file, for error messages
    :raises AssetError: it is missing, neither a regular file nor a block device, or cannot be opened; with the reason
    """
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            raise AssetError(f"a {what} must not be a directory", option=option, wanted=path)
        if not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)):
            raise AssetError(f"a {what} must be a regular file or a block device", option=option, wanted=path)
        descriptor = os.open(
            path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        )
    except FileNotFoundError as error:
        raise AssetError(f"the {what} does not exist", option=option, wanted=path) from error
    except OSError as error:
        raise AssetError(f"the {what} cannot be opened", option=option, wanted=path, answer=str(error)) from error
    try:
        kind = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)):
            raise AssetError(f"a {what} must be a regular file or a block device", option=option, wanted=path)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_disk(path: str, read_only: bool, option: str) -> None:
    """Refuse a file that cannot be a disk. It never blocks. A block device is not opened for writing, since udev would probe it again.

    :raises AssetError: see `open_disk`
    """
    block = is_block_device(path)
    if block and not read_only and not os.access(path, os.W_OK):
        raise AssetError(
            "the disk must be writable, or read_only",
            option=option,
            wanted=path,
            answer="it cannot be written to",
            fix="Set read_only.",
        )
    os.close(open_disk(path, read_only or block, option))


def is_block(descriptor: int) -> bool:
    """Whether the open file is a block device."""
    return stat.S_ISBLK(os.fstat(descriptor).st_mode)


def is_block_device(path: str) -> bool:
    """Whether a path, through links or not, leads to a block device."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def check_image(path: str, image_format: str, option: str) -> None:
    """Do the same as `check_open_image` for the path of an image. Changes nothing.

    :raises AssetError: it cannot be read, names another file, or has another format
    """
    if image_format != "qcow2":
        return
    descriptor = open_disk(path, True, option, "image")
    try:
        check_open_image(descriptor, path, image_format, option)
    finally:
        os.close(descriptor)
