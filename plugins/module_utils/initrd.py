# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sandbox's initrd: busybox, the kernel modules it needs, and a program that runs first."""

from __future__ import annotations

import os
import pathlib
from typing import Iterable, Mapping, NamedTuple

from ansible_collections.kata.hypervisor.plugins.module_utils.cpio import Archive
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError

#: Where the guest finds its modules, and the list that says in which order to load them.
MODULES_DIRECTORY = "/lib/modules"
MODULES_LIST = "/etc/kata-modules"

_EMPTY_DIRECTORIES = ("/dev", "/etc", "/mnt", "/proc", "/root", "/run", "/sys", "/tmp", "/var/run")


class ExtraFile(NamedTuple):
    """A file of the host that goes into the initrd as well."""

    src: str
    dest: str
    mode: int


class Built(NamedTuple):
    """An initrd, and what went into it."""

    content: bytes
    modules: list[str]
    missing: list[str]


def build_initrd(
    *,
    init: bytes,
    busybox: str = "",
    modules_directory: str = "",
    modules: Iterable[str] = (),
    optional_modules: Iterable[str] = (),
    files: Iterable[ExtraFile] = (),
    symlinks: Mapping[str, str] | None = None,
    compression: str = "none",
) -> Built:
    """Put an initrd together in memory. The same inputs give the same bytes.

    :param init: the program the kernel runs first
    :param busybox: a statically linked busybox of the host; all its applets become links in C(/bin)
    :param modules_directory: the kernel's C(/lib/modules/VERSION)
    :param modules: modules the guest cannot do without
    :param optional_modules: modules that are taken where the kernel has them
    :param compression: C(none) or C(gzip)
    :raises AssetError: something of the host that should go in is missing or unfit
    """
    archive = Archive()
    for directory in _EMPTY_DIRECTORIES:
        archive.add_directory(directory)
    archive.add_character_device("/dev/console", 5, 1)
    archive.add_character_device("/dev/null", 1, 3, mode=0o666)
    if busybox:
        _add_busybox(archive, busybox)
    order: list[str] = []
    missing: list[str] = []
    if modules_directory:
        order, missing = _add_modules(archive, modules_directory, list(modules), list(optional_modules))
    for file in files:
        archive.add_file(file.dest, _read(file.src), file.mode)
    for path, target in (symlinks or {}).items():
        archive.add_symlink(path, target)
    archive.add_file("/init", init, mode=0o755)
    content = archive.to_bytes()
    if compression == "gzip":
        import gzip

        content = gzip.compress(content, compresslevel=6, mtime=0)
    return Built(content, order, missing)


def _add_modules(archive: Archive, directory: str, wanted: list[str], optional: list[str]) -> tuple[list[str], list[str]]:
    from ansible_collections.kata.hypervisor.plugins.module_utils.kernel_modules import ModuleTree

    tree = ModuleTree(directory)
    missing = [name for name in optional if not tree.has(name)]
    order = tree.load_order(wanted + [name for name in optional if name not in missing])
    for name in order:
        archive.add_file(f"{MODULES_DIRECTORY}/{name}.ko", tree.read(name))
    archive.add_file(MODULES_LIST, "".join(f"{MODULES_DIRECTORY}/{name}.ko\n" for name in order).encode())
    return order, missing


def _add_busybox(archive: Archive, busybox: str) -> None:
    program = _read(busybox)
    if b"/lib64/ld-linux" in program or b"/lib/ld-" in program:
        raise AssetError(
            "This busybox is linked dynamically, and an initrd has no libraries for it",
            wanted=busybox,
            fix="Install the distribution's static one (busybox-static on Debian and Ubuntu, busybox on Fedora).",
        )
    archive.add_file("/bin/busybox", program, mode=0o755)
    for applet in _applets(busybox):
        if applet != "busybox":
            archive.add_symlink(f"/bin/{applet}", "busybox")


def _applets(busybox: str) -> list[str]:
    import subprocess

    try:
        answer = subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise AssetError("busybox does not tell its applets", wanted=busybox, answer=str(error)) from error
    return [name for name in answer.stdout.decode("ascii", "replace").split() if os.path.basename(name) == name]


def _read(path: str) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise AssetError("A file for the initrd cannot be read", wanted=path, answer=str(error)) from error
