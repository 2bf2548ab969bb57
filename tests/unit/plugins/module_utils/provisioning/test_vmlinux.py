# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel that a VMM can boot, of each form in which distributions ship kernels.

The forms are those of the kernel's Documentation/arch/x86/boot.rst and arch/arm64/booting.rst, and of drivers/firmware/efi/libstub/zboot-header.S.
"""

from __future__ import annotations

import gzip
import lzma
import pathlib
import struct

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.vmlinux import (
    extract_vmlinux,
    install_vmlinux,
)

ELF = b"\x7fELF" + b"code" * 64
#: An arm64 Image has its magic at 56, whether it begins with code or, as an EFI program, with MZ.
IMAGE = (b"MZ" + bytes(54) + b"ARM\x64").ljust(256, b"\1")


def bzimage(payload: bytes) -> bytes:
    """A kernel of x86: one sector, four of set-up code, and what is compressed."""
    image = bytearray(5 * 512)
    image[0x1F1] = 4
    image[0x202:0x206] = b"HdrS"
    image[0x248:0x250] = struct.pack("<II", 0, len(payload))
    return bytes(image) + payload


def zboot(payload: bytes) -> bytes:
    """An EFI program that has the kernel compressed in it."""
    return struct.pack("<2s2x4sII8x32s", b"MZ", b"zimg", 64, len(payload), b"gzip").ljust(64, b"\0") + payload + b"rest"


@pytest.mark.parametrize(
    ("content", "kernel"),
    [
        (ELF, ELF),
        (bzimage(gzip.compress(ELF)), ELF),
        (bzimage(lzma.compress(ELF)), ELF),
        (IMAGE, IMAGE),
        (gzip.compress(IMAGE), IMAGE),
        (zboot(gzip.compress(IMAGE)), IMAGE),
        (zboot(lzma.compress(IMAGE)), IMAGE),
    ],
    ids=["ELF", "bzImage gzip", "bzImage xz", "Image", "Image.gz", "zboot gzip", "zboot xz"],
)
def test_the_kernel_of_each_form(tmp_path: pathlib.Path, content: bytes, kernel: bytes) -> None:
    source, target = tmp_path / "vmlinuz", tmp_path / "vmlinux"
    source.write_bytes(content)
    assert install_vmlinux(str(source), str(target), False) == {
        "changed": True,
        "path": str(target),
        "size": len(kernel),
    }
    assert target.read_bytes() == kernel
    assert install_vmlinux(str(source), str(target), False)["changed"] is False


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>404</html>", "must be a Linux kernel"),
        (gzip.compress(b"words"), "must be a Linux kernel"),
        (zboot(gzip.compress(b"words")), "must be a Linux kernel"),
        (zboot(gzip.compress(IMAGE))[:90], "must be complete"),
        (bzimage(gzip.compress(ELF))[:-20], "must be complete"),
        (bzimage(gzip.compress(b"words")), "must contain an ELF kernel"),
    ],
    ids=["page", "compressed words", "zboot words", "short zboot", "short bzImage", "bzImage words"],
)
def test_what_is_no_kernel_is_refused(tmp_path: pathlib.Path, content: bytes, words: str) -> None:
    source = tmp_path / "vmlinuz"
    source.write_bytes(content)
    with pytest.raises(AssetError, match=words):
        extract_vmlinux(str(source))
