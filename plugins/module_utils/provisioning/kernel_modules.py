# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a kernel's module tree must be loaded, and in which order.

A kernel package brings no `modules.dep` (depmod writes that when the package is installed, which this collection never does), so what a
module needs is read from the module itself: the `.modinfo` section of its ELF file, where `depends` names the modules whose symbols
it uses and `softdep` those it wants loaded before.
"""

from __future__ import annotations

import os
import pathlib
import struct
from typing import Iterable, Iterator

from ..errors import AssetError
from .compression import decompress

#: What a module may have, decompressed, bytes; the largest have 20 MiB.
MOST_MODULE = 256 << 20
_SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")


class ModuleTree:
    """One kernel's modules: `/lib/modules/VERSION`, or the same directory of an unpacked package.

    :raises AssetError: the directory is not a kernel's module tree
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        if not os.path.isdir(directory):
            raise AssetError("There is no such directory of kernel modules", wanted=directory)
        self._files = {_name_of(path): path for path in _module_files(directory)}
        self._builtin = set(_builtin_modules(directory))
        if not self._files and not self._builtin:
            raise AssetError("The directory holds no kernel modules", wanted=directory)

    def has(self, name: str) -> bool:
        """Whether the kernel has it, as a file or built in."""
        return _canonical(name) in self._files or self.is_builtin(name)

    def is_builtin(self, name: str) -> bool:
        """Whether the kernel has it without loading anything."""
        return _canonical(name) in self._builtin

    def read(self, name: str) -> bytes:
        """The module, decompressed.

        :raises AssetError: the kernel has no such module file, or it cannot be decompressed
        :raises HostError: the host lacks the program that can decompress it
        """
        path = self._files.get(_canonical(name))
        if path is None:
            raise AssetError(f"The kernel has no module {name}", wanted=self.directory)
        try:
            content = pathlib.Path(path).read_bytes()
        except OSError as error:
            raise AssetError("A kernel module cannot be read", wanted=path, answer=str(error)) from error
        return decompress(content, path, MOST_MODULE)

    def load_order(self, names: Iterable[str]) -> list[str]:
        """The modules to load for `names`, each after what it depends on; built-in ones are left out.

        :raises AssetError: a module, or one it depends on, is not in the tree
        """
        order: list[str] = []
        visiting: set[str] = set()

        def visit(name: str, needed_by: str) -> None:
            if name in order or name in visiting or self.is_builtin(name):
                return
            if name not in self._files:
                reason = f", which {needed_by} needs" if needed_by else ""
                raise AssetError(f"The kernel has no module {name}{reason}", wanted=self.directory)
            visiting.add(name)
            info = modinfo(self.read(name), self._files[name])
            for dependency in info.get("depends", "").split(","):
                if dependency:
                    visit(_canonical(dependency), name)
            for dependency in _soft_dependencies(info.get("softdep", "")):
                if self.has(dependency):
                    visit(_canonical(dependency), name)
            visiting.discard(name)
            order.append(name)

        try:
            for wanted in names:
                visit(_canonical(wanted), "")
        except RecursionError as error:
            raise AssetError(
                "The kernel's modules depend on each other in too many steps", wanted=self.directory
            ) from error
        return order


def modinfo(image: bytes, path: str = "") -> dict[str, str]:
    """The `key=value` pairs of a module's `.modinfo` section; values of a repeated key are joined by blanks.

    :raises AssetError: the file is not an ELF file, or has no such section
    """
    pairs: dict[str, str] = {}
    for pair in _section(image, b".modinfo", path).split(b"\0"):
        key, equals, value = pair.decode("utf-8", "replace").partition("=")
        if equals:
            pairs[key] = f"{pairs[key]} {value}" if key in pairs else value
    return pairs


def _module_files(directory: str) -> Iterator[str]:
    for folder, folders, files in os.walk(directory):
        folders.sort()
        for file in sorted(files):
            if file.endswith(_SUFFIXES):
                yield os.path.join(folder, file)


def _builtin_modules(directory: str) -> Iterator[str]:
    try:
        lines = pathlib.Path(directory, "modules.builtin").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise AssetError("The list of built-in modules cannot be read", wanted=directory, answer=str(error)) from error
    for line in lines:
        yield _name_of(line)


def _name_of(path: str) -> str:
    return _canonical(os.path.basename(path).partition(".ko")[0])


def _canonical(name: str) -> str:
    """The kernel does not tell - from _ in a module's name."""
    return name.replace("-", "_")


def _soft_dependencies(text: str) -> list[str]:
    """The names after `pre:` in a softdep line."""
    names = []
    before = False
    for word in text.split():
        if word.endswith(":"):
            before = word == "pre:"
        elif before:
            names.append(word)
    return names


def _section(image: bytes, wanted: bytes, path: str) -> bytes:
    """One section of an ELF file, by name (System V ABI, chapter 4)."""
    try:
        if image[:4] != b"\x7fELF":
            raise ValueError("it does not begin with ELF's magic number")
        is_64 = image[4] == 2
        order = "<" if image[5] == 1 else ">"
        if is_64:
            table = struct.unpack_from(f"{order}Q", image, 0x28)[0]
            size, count, names_index = struct.unpack_from(f"{order}HHH", image, 0x3A)
            layout, at_offset, at_size = f"{order}IIQQQQ", 4, 5
        else:
            table = struct.unpack_from(f"{order}I", image, 0x20)[0]
            size, count, names_index = struct.unpack_from(f"{order}HHH", image, 0x2E)
            layout, at_offset, at_size = f"{order}IIIIII", 4, 5
        headers = [struct.unpack_from(layout, image, table + index * size) for index in range(count)]
        names = headers[names_index]
        for header in headers:
            start = names[at_offset] + header[0]
            if image[start : image.index(b"\0", start)] == wanted:
                return image[header[at_offset] : header[at_offset] + header[at_size]]
        raise ValueError(f"it has no section {wanted.decode()}")
    except (ValueError, IndexError, OverflowError, struct.error) as error:
        raise AssetError("The file is not a kernel module", wanted=path, answer=str(error)) from error
