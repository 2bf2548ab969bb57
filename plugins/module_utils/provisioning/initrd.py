# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a sandbox's initrd from busybox, kernel modules, an init program and further files."""

from __future__ import annotations

import os
import pathlib
from typing import Any, Iterable, Mapping, NamedTuple

from ..errors import AssetError, ConfigError, HostError
from ..guest.cpio import Archive
from ..guest.identity import SCRIPT, SCRIPT_NAME
from ..host.atomic_files import make_directories, replace_file
from ..host.programs import check_program, run

#: The guest's directory of modules, and its file with the order in which they are loaded.
MODULES_DIRECTORY = "/lib/modules"
MODULES_LIST = "/etc/kata-modules"

#: The option that lists `ExtraFile`s; doc_fragments/built_files.py describes it.
FILES_SPEC: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "src": {"type": "path", "required": True},
        "dest": {"type": "str", "required": True},
        "mode": {"type": "str", "default": "0644"},
    },
}

_EMPTY_DIRECTORIES = ("/dev", "/etc", "/mnt", "/proc", "/root", "/run", "/sys", "/tmp", "/var/run")  # noqa: S108


class ExtraFile(NamedTuple):
    """A further file of the host that is added to the initrd."""

    src: str
    dest: str
    mode: int

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> ExtraFile:
        """Parse a task's suboptions.

        :raises ConfigError: the mode is not octal, or the destination not an absolute path
        """
        try:
            mode = int(options["mode"], 8)
        except ValueError as error:
            raise ConfigError(
                "the file mode must be an octal number such as 0755", option="files", wanted=options["mode"]
            ) from error
        if not options["dest"].startswith("/") or ".." in options["dest"].split("/"):
            raise ConfigError(
                "the path in the guest must be absolute and have no ..", option="files", wanted=options["dest"]
            )
        return cls(options["src"], options["dest"], mode & 0o7777)


class Program(NamedTuple):
    """A dynamically linked program that is added to the initrd with its libraries.

    :param root: root directory of the file system with the libraries
    """

    src: str
    dest: str
    root: str = "/"


#: Where distributions have busybox in its package.
BUSYBOX_PLACES = ("bin/busybox", "usr/bin/busybox", "usr/sbin/busybox", "sbin/busybox")


class Unpacked(NamedTuple):
    """The packages that parts of an initrd come from.

    :param directories: where each package is unpacked, by its name
    :param actions: what was done, or would be done in check mode
    """

    directories: dict[str, str]
    actions: list[str]

    def busybox(self, package: str) -> str:
        """The path of busybox in its package.

        :raises AssetError: the package has none
        """
        for place in BUSYBOX_PLACES:
            path = os.path.join(self.directories[package], place)
            if os.path.isfile(path):
                return path
        raise AssetError(
            f"The package must contain busybox as {' or '.join(BUSYBOX_PLACES)}",
            option="busybox_package",
            wanted=package,
        )

    def program(self, options: Mapping[str, str]) -> Program:
        """A program of a task's suboptions, from its package if it names one."""
        package = options.get("package")
        if not package:
            return Program(options["src"], options["dest"], options["root"])
        directory = self.directories[package]
        return Program(os.path.join(directory, options["src"].lstrip("/")), options["dest"], directory)


def unpack_packages(wanted: Mapping[str, str], root: str, check_mode: bool = False) -> Unpacked:
    """Unpack packages of the distribution that are not unpacked yet, or damaged.

    :param wanted: by the name of a package, a pattern: dependencies of which the name matches are unpacked as well
    :param root: see `PackageStore`
    :raises HostError: a package cannot be had
    """
    from .packages import PackageStore

    store = PackageStore(root)
    found = [store.converge(name, "present", follow, check_mode) for name, follow in wanted.items()]
    return Unpacked(
        {one["name"]: one["directory"] for one in found}, [action for one in found for action in one["actions"]]
    )


class Built(NamedTuple):
    """An initrd and its content."""

    content: bytes
    modules: list[str]
    missing: list[str]


def build_initrd(
    *,
    init: str = "",
    init_content: str = "",
    busybox: str = "",
    modules_directory: str = "",
    modules: Iterable[str] = (),
    optional_modules: Iterable[str] = (),
    files: Iterable[ExtraFile] = (),
    programs: Iterable[Program] = (),
    symlinks: Mapping[str, str] | None = None,
    compression: str = "none",
) -> Built:
    """Build an initrd in memory. The same inputs give the same bytes.

    :param init: the host's file that becomes the program the kernel runs first
    :param init_content: the content of that program, instead of a file
    :param busybox: a statically linked busybox of the host; all its applets become links in `/bin`, beside the script that applies a seed
    :param modules_directory: the kernel's `/lib/modules/VERSION`
    :param modules: modules that the guest must have
    :param optional_modules: modules that are added if the kernel has them
    :param compression: `none` or `gzip`
    :raises AssetError: a file of the host is missing or cannot be used
    """
    archive = Archive()
    for directory in _EMPTY_DIRECTORIES:
        archive.add_directory(directory)
    archive.add_character_device("/dev/console", 5, 1)
    archive.add_character_device("/dev/null", 1, 3, mode=0o666)
    if busybox:
        _add_busybox(archive, busybox)
        archive.add_file(f"/bin/{SCRIPT_NAME}", SCRIPT.encode(), mode=0o755)
    order: list[str] = []
    missing: list[str] = []
    if modules_directory:
        order, missing = _add_modules(archive, modules_directory, list(modules), list(optional_modules))
    for program in programs:
        _add_program(archive, program)
    for file in files:
        archive.add_file(file.dest, _read(file.src), file.mode)
    for path, target in (symlinks or {}).items():
        archive.add_symlink(path, target)
    archive.add_file("/init", init_content.encode() if init_content else _read(init), mode=0o755)
    content = archive.to_bytes()
    if compression == "gzip":
        import gzip

        content = gzip.compress(content, compresslevel=6, mtime=0)
    return Built(content, order, missing)


def install_initrd(built: Built, path: str, check_mode: bool = False) -> dict[str, Any]:
    """Write an initrd, in a directory that is created if it is missing, unless the file has the same content already. The old file is replaced atomically.

    :returns: what the module returns
    :raises HostError: the file cannot be written (the old one is untouched)
    """
    import hashlib

    digest = hashlib.sha256(built.content).hexdigest()
    old = _describe(path)
    new = {"path": path, "sha256": digest, "size": len(built.content)}
    changed = old.get("sha256") != digest
    if changed and not check_mode:
        try:
            make_directories(os.path.dirname(path))
            replace_file(path, built.content)
        except OSError as error:
            raise HostError("the initrd cannot be written", option="path", wanted=path, answer=str(error)) from error
    return {
        "changed": changed,
        "modules": built.modules,
        "missing_modules": built.missing,
        "diff": {"before": old, "after": new},
        **new,
    }


def _describe(path: str) -> dict[str, Any]:
    import hashlib

    try:
        content = pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise HostError("the existing initrd cannot be read", option="path", wanted=path, answer=str(error)) from error
    return {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def _add_modules(
    archive: Archive, directory: str, wanted: list[str], optional: list[str]
) -> tuple[list[str], list[str]]:
    from .kernel_modules import ModuleTree

    tree = ModuleTree(directory)
    missing = [name for name in optional if not tree.has(name)]
    order = tree.load_order(wanted + [name for name in optional if name not in missing])
    for name in order:
        archive.add_file(f"{MODULES_DIRECTORY}/{name}.ko", tree.read(name))
    archive.add_file(MODULES_LIST, "".join(f"{MODULES_DIRECTORY}/{name}.ko\n" for name in order).encode())
    # For modprobe(8), which loads them all in one process: they are listed in the order of loading, so none has to name what it depends on.
    archive.add_file(f"{MODULES_DIRECTORY}/modules.dep", "".join(f"{name}.ko:\n" for name in order).encode())
    archive.add_symlink(f"{MODULES_DIRECTORY}/{os.path.basename(os.path.normpath(directory))}", ".")
    return order, missing


def _add_program(archive: Archive, program: Program) -> None:
    from .elf import closure

    archive.add_file(program.dest, _read(program.src), mode=0o755)
    for destination, source in closure(program.src, program.root).items():
        archive.add_file(destination, _read(source), mode=0o755)


def _add_busybox(archive: Archive, busybox: str) -> None:
    program = _read(busybox)
    if b"/lib64/ld-linux" in program or b"/lib/ld-" in program:
        raise AssetError(
            "busybox must be linked statically, since the initrd has no libraries for it",
            wanted=busybox,
            fix="Install the distribution's static busybox (busybox-static on Debian and Ubuntu, busybox on Fedora).",
        )
    archive.add_file("/bin/busybox", program, mode=0o755)
    for applet in _applets(busybox, program):
        if applet != "busybox":
            archive.add_symlink(f"/bin/{applet}", "busybox")


def _applets(busybox: str, program: bytes) -> list[str]:
    """The names of a busybox's applets: from its own output or, if it is for another architecture, from its binary."""
    try:
        names = run([check_program(os.path.abspath(busybox), "busybox"), "--list"], 30).raise_on_failure().text.split()
    except HostError as error:
        # The binary has a table of names in alphabetical order, each ended by a zero byte.
        start = program.find(b"\0[\0[[\0") + 1
        names = program[start : program.find(b"\0\0", start)].decode("ascii", "replace").split("\0") if start else []
        if not names:
            raise AssetError("busybox must list its applets", wanted=busybox, answer=str(error)) from error
    return [name for name in names if name and os.path.basename(name) == name]


def _read(path: str) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise AssetError("a file for the initrd cannot be read", wanted=path, answer=str(error)) from error
