# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install and remove versions of an asset, such as a kernel or a VMM. One version is in use, and the digests of its files are recorded.

    ROOT/NAME/VERSION/          the files, and .asset.json with their digests
    ROOT/NAME/current           a link to the version in use, switched in one step

A version is installed atomically. Each run compares the installed files with their recorded digests.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import stat
from typing import Any, Callable, Iterator

from ..architectures import architecture_of_elf
from ..errors import AssetError, ConfigError, HostError
from ..host.atomic_files import (
    draft_directory,
    locked,
    make_directories,
    put_in_place,
    replace_file,
    sync_tree,
    write_problem,
)
from ..host.digests import file_digest
from ..untrusted.answers import AnswerError, Anything, MapOf, Number, Record, Text, checked, parsed
from ..untrusted.files import check_parents
from .image_users import MANIFEST, image_users, refuse_if_used, users_of
from .sources import Checksum, Fetch, copy_file

CURRENT = "current"
LOCK_SECONDS = 1800
#: The mode of every directory of an asset.
DIRECTORY_MODE = 0o755

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
#: The shape of a manifest, and its largest size, bytes.
_RECORDED = Record(optional={"sha256": Text(64), "mode": Number(most=0o7777), "link": Text(4096)})
_SHAPE = Record(
    required={"files": MapOf(_RECORDED, 200_000)},
    optional={"source": Text(), "checksum": Text(), "wanted": Anything(most=20_000)},
)
_MOST_MANIFEST = 64 << 20


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One file of a version, or a directory if the path ends in a slash.

    :param member: its path in the archive; empty if the source is the file itself
    :param dest: its path below the version's directory
    :param mode: its permissions; None keeps those in the archive
    """

    member: str
    dest: str
    mode: int | None = None

    @classmethod
    def parse(cls, options: dict[str, Any], version: str, arch: str) -> Wanted:
        """Parse an item of the option `files`. `{version}` and `{arch}` are replaced.

        :raises ConfigError: its path is outside the version's directory, or its mode is invalid or lets others write
        """
        member = (options.get("member") or "").replace("{version}", version).replace("{arch}", arch)
        dest = options.get("dest") or os.path.basename(member.rstrip("/"))
        plain = os.path.normpath(dest)
        if (
            not dest
            or os.path.isabs(dest)
            or ".." in dest.split("/")
            or plain.split("/")[0] in (".", MANIFEST, CURRENT)
            or "\0" in dest
        ):
            raise ConfigError("must be a path below the version's directory", option="files", wanted=dest)
        mode = None
        if options.get("mode"):
            try:
                mode = int(str(options["mode"]), 8)
            except ValueError as problem:
                raise ConfigError("must be an octal number", option="files", wanted=options["mode"]) from problem
            if mode & 0o7022:
                raise ConfigError(
                    "must not let others write to the file, and must not have the setuid or setgid bit",
                    option="files",
                    wanted=options["mode"],
                )
        return cls(member, plain, mode)


#: A function that raises an error for a file with the wrong kind of content.
Check = Callable[[str], None]


class AssetStore:
    """The versions of one asset on this host.

    :param root: the directory of all assets of a kind
    """

    def __init__(self, root: str, name: str) -> None:
        _check_name("name", name)
        self.root = root
        self.name = name
        self.directory = os.path.join(root, name)

    # --- reading ----------------------------------------------------------------------------------------------

    def current(self) -> str:
        """The version in use, empty if there is none."""
        try:
            return os.path.basename(os.readlink(os.path.join(self.directory, CURRENT)))
        except OSError:
            return ""

    def versions(self) -> list[str]:
        """The installed versions, the latest installation first."""
        try:
            found = [
                name
                for name in os.listdir(self.directory)
                if os.path.isfile(self.path(name, MANIFEST)) and name != CURRENT
            ]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(found, key=lambda name: os.stat(self.path(name, MANIFEST)).st_mtime_ns, reverse=True)

    def path(self, version: str, *parts: str) -> str:
        """A path below a version's directory."""
        return os.path.join(self.directory, version, *parts)

    def manifest(self, version: str) -> dict[str, Any]:
        """The manifest of a version; empty if it does not exist or cannot be read."""
        try:
            with open(self.path(version, MANIFEST), "rb") as stream:
                data = stream.read(_MOST_MANIFEST + 1)
            manifest: dict[str, Any] = checked(_SHAPE, parsed(data, MANIFEST, _MOST_MANIFEST), MANIFEST)
        except (OSError, AnswerError):
            return {}
        complete = all("link" in file or ("sha256" in file and "mode" in file) for file in manifest["files"].values())
        return manifest if complete else {}

    def drift(self, version: str) -> list[str]:
        """The differences between the files of a version and its manifest, as texts; empty if there are none."""
        recorded: dict[str, Any] = self.manifest(version).get("files", {})
        found = []
        for path in _directories_below(self.path(version)):
            if os.stat(path).st_uid not in (0, os.geteuid()):
                found.append(f"{os.path.relpath(path, self.directory)} belongs to user {os.stat(path).st_uid}")
        for name in sorted(recorded.keys() | set(_files_below(self.path(version)))):
            path = self.path(version, name)
            if name not in recorded:
                found.append(f"{name} was added")
            elif not os.path.lexists(path):
                found.append(f"{name} is missing")
            elif "link" in recorded[name]:
                if not os.path.islink(path) or os.readlink(path) != recorded[name]["link"]:
                    found.append(f"{name} leads elsewhere")
            else:
                found += _file_drift(name, path, recorded[name])
        return found

    # --- changing -----------------------------------------------------------------------------------------------

    def install(
        self,
        version: str,
        wanted: list[Wanted],
        fetch: Fetch,
        checksum: Checksum | None,
        sums: str,
        use: bool,
        check_mode: bool,
        content: Check | None = None,
        decompress: bool = False,
        most: int = 0,
    ) -> list[str]:
        """Install or repair a version, and switch to it if `use` is set. Returns the actions.

        :param sums: member of the archive with further digests; empty for none
        :param content: raises an error if the first file has the wrong kind of content
        :param decompress: whether the source is a compressed file whose content is installed
        :param most: how many bytes may be extracted from the source; 0 for the default limit
        :raises AssetError: the source is not the requested one; the installed version stays unchanged
        """
        _check_name("version", version)
        actions = self._correct_modes(version, check_mode)
        manifest = self.manifest(version)
        damage = self.drift(version) if manifest else []
        described = _described(wanted, decompress)
        other = bool(manifest and checksum and not _is_same(checksum, manifest))
        other = other or bool(manifest and wanted and manifest.get("wanted") != described)
        if damage or other or not manifest:
            why = (
                f"repair {self.name} {version} ({', '.join(damage[:5])})"
                if damage
                else f"install {self.name} {version}"
            )
            actions.append(
                why if (manifest and not other) or not manifest else f"install another {self.name} {version}"
            )
            if other:
                self._refuse_if_used(version, "version", version)
            if not check_mode:
                with self._written(version), draft_directory(self.directory) as work:
                    source = fetch(work)
                    origin = (
                        f"{checksum.algorithm}:{checksum.digest}"
                        if checksum
                        else f"unverified sha256:{file_digest(source)}"
                    )
                    tree = os.path.join(work, "tree")
                    make_directories(tree, DIRECTORY_MODE)
                    _unpack(source, wanted, sums, tree, decompress, most)
                    if content:
                        content(os.path.join(tree, wanted[0].dest))
                    facts = {
                        "source": origin,
                        "wanted": described,
                        **({"checksum": checksum.recorded} if checksum else {}),
                    }
                    self._put(version, tree, work, facts)
        return actions + (self.use(version, check_mode) if use else [])

    def use(self, version: str, check_mode: bool) -> list[str]:
        """Switch to an installed version. Returns the actions."""
        before = self.current()
        if before == version:
            return []
        if not check_mode:
            with self._written(version), draft_directory(self.directory) as work:
                draft = os.path.join(work, CURRENT)
                os.symlink(version, draft)
                put_in_place(draft, os.path.join(self.directory, CURRENT))
        return [f"use {self.name} {version}" + (f" instead of {before}" if before else "")]

    def prune(self, keep: int, spare: str, check_mode: bool) -> list[str]:
        """Remove the oldest versions. `keep` versions stay beside the one in use, and so do those that a process runs or that a root disk is based on.

        Returns the actions.
        """
        others = [version for version in self.versions() if version not in (self.current(), spare)]
        used = programs_running() | {os.path.realpath(user.base) for user in image_users(self.directory)}
        actions = []
        for version in others[keep:]:
            if any(
                path.startswith((self.path(version) + "/", os.path.realpath(self.path(version)) + "/")) for path in used
            ):
                continue
            actions.append(f"remove {self.name} {version}")
            if not check_mode:
                shutil.rmtree(self.path(version))
        return actions

    def remove(self, version: str, check_mode: bool) -> list[str]:
        """Remove a version, or all versions if none is named. Returns the actions.

        :raises HostError: the version is in use, or a root disk is based on it; the error names the sandbox
        """
        if version and version == self.current() and len(self.versions()) > 1:
            raise HostError(
                "the version must not be in use",
                option="version",
                wanted=version,
                fix="Switch to another version first, with state: present.",
            )
        doomed = [name for name in self.versions() if not version or name == version]
        busy = [
            program
            for program in programs_running()
            if any(program.startswith(self.path(name) + "/") for name in doomed)
        ]
        if busy:
            raise HostError(
                f"a process runs {busy[0]}",
                option="state",
                wanted="absent",
                fix="Stop the sandboxes that use it first.",
            )
        for name in doomed:
            self._refuse_if_used(name, "state", "absent")
        if not doomed and (version or not os.path.lexists(self.directory)):
            return []
        if not check_mode:
            for name in doomed:
                shutil.rmtree(self.path(name))
            if not self.versions():
                shutil.rmtree(self.directory, ignore_errors=True)
        return [f"remove {self.name} {name}" for name in doomed]

    def _refuse_if_used(self, version: str, option: str, wanted: str) -> None:
        """Refuse to remove or exchange a version that root disks are based on.

        :raises HostError: names the sandboxes
        """
        refuse_if_used(users_of(self.path(version)), f"{self.name} {version}", option, wanted)

    def _put(self, version: str, tree: str, work: str, facts: dict[str, Any]) -> None:
        """Move a version into place, with its manifest."""
        files = {name: _recorded(os.path.join(tree, name)) for name in _files_below(tree)}
        manifest = {"name": self.name, "version": version, "files": files, **facts}
        replace_file(os.path.join(tree, MANIFEST), (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
        final = self.path(version)
        sync_tree(tree)
        if os.path.lexists(final):
            os.rename(final, os.path.join(work, "old"))
        put_in_place(tree, final)

    @contextlib.contextmanager
    def _written(self, version: str) -> Iterator[None]:
        """Create the directory of the versions, and raise typed errors for errors of the disk."""
        try:
            make_directories(self.directory, DIRECTORY_MODE)
            yield
        except OSError as problem:
            raise write_problem(problem, "the asset cannot be installed", self.path(version)) from problem

    def _correct_modes(self, version: str, check_mode: bool) -> list[str]:
        """Correct the modes of the directories: all users can read them, and no other user can write to them. Returns the actions.

        :raises HostError: a directory belongs to another user
        """
        check_parents(self.root, "root", itself=False, shared_groups=True)
        wrong = []
        for path in (self.root, self.directory, *_directories_below(self.path(version))):
            try:
                found = os.stat(path)
            except FileNotFoundError:
                continue
            if found.st_uid not in (0, os.geteuid()):
                if path in (self.root, self.directory):
                    raise HostError(
                        f"{path} belongs to user {found.st_uid}; it must belong to root or to the user of the task",
                        option="root",
                        wanted=self.root,
                        fix=f"Remove what that user put there, and correct it (chown root: {path}), or choose another root.",
                    )
                continue  # `drift` reports it.
            if stat.S_IMODE(found.st_mode) & 0o777 != DIRECTORY_MODE and found.st_uid == os.geteuid():
                wrong.append(path)
        for path in [] if check_mode else wrong:
            os.chmod(path, DIRECTORY_MODE)
        return [f"correct the mode of {path}" for path in wrong]

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the asset's lock. A second play waits, and then finds the work done.

        :raises LockTimeout: another task held the lock for too long
        :raises HostError: the directory cannot be created
        """
        with contextlib.ExitStack() as stack:
            try:
                make_directories(self.root, DIRECTORY_MODE)
                stack.enter_context(locked(os.path.join(self.root, ".lock"), LOCK_SECONDS, "the assets", "root"))
            except OSError as problem:
                raise write_problem(
                    problem, "the directory of the assets cannot be created", self.root, "root"
                ) from problem
            yield


def _unpack(source: str, wanted: list[Wanted], sums: str, tree: str, decompress: bool, most: int) -> None:
    """Extract the requested files from the source."""
    from .archives import Archive, Tree

    target = Tree(tree)
    members = [file for file in wanted if file.member]
    if members:
        with Archive.open(source, most) as archive:
            listed = archive.listed(sums) if sums else None
            for file in members:
                archive.extract(file.member, target, file.dest, file.mode, listed)
    for file in [file for file in wanted if not file.member]:
        mode = file.mode if file.mode is not None else 0o644
        if decompress:
            from .compression import Limit, decompress_file

            with open(source, "rb") as stream, target.file(file.dest, mode) as writer:
                decompress_file(stream, source, writer, Limit(source, os.path.getsize(source), most))
        else:
            target.directory(os.path.dirname(file.dest) or ".")
            path = os.path.join(tree, file.dest)
            if len(wanted) == 1:
                os.rename(source, path)
                os.chmod(path, mode)
            else:
                copy_file(source, path, mode)
    target.finish()
    for name in _files_below(tree):
        path = os.path.join(tree, name)
        if not os.path.islink(path):
            _check_architecture(path)


def programs_running() -> set[str]:
    """The paths of all programs that run on this host."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{name}/exe"))
    return found


def _check_name(option: str, text: str) -> None:
    if not _NAME.fullmatch(text) or text == CURRENT:
        raise ConfigError(f"this cannot be a {option}", option=option, wanted=text)


def _described(wanted: list[Wanted], decompress: bool) -> list[list[Any]]:
    return [[file.member, file.dest, file.mode, *(["decompressed"] if decompress else [])] for file in wanted]


def _is_same(checksum: Checksum, manifest: dict[str, Any]) -> bool:
    """Whether a version was installed from a source with this checksum. A list of digests is only fetched if it differs from the recorded one."""
    return checksum.recorded == manifest.get("checksum") or f"{checksum.algorithm}:{checksum.digest}" == manifest.get(
        "source"
    )


def _directories_below(directory: str) -> list[str]:
    """A directory and its subdirectories. Links are not followed."""
    return [folder for folder, _folders, _files in os.walk(directory)] if not os.path.islink(directory) else []


def _files_below(directory: str) -> list[str]:
    """The relative paths of a tree's files and links, without the manifest."""
    found = []
    for folder, folders, files in os.walk(directory):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        found += [os.path.relpath(os.path.join(folder, name), directory) for name in [*files, *links]]
    return sorted(name for name in found if name != MANIFEST)


def _recorded(path: str) -> dict[str, Any]:
    if os.path.islink(path):
        return {"link": os.readlink(path)}
    return {"sha256": file_digest(path), "mode": stat.S_IMODE(os.stat(path).st_mode)}


def _file_drift(name: str, path: str, recorded: dict[str, Any]) -> list[str]:
    if os.path.islink(path) or not os.path.isfile(path):
        return [f"{name} is not a file"]
    found = []
    status = os.stat(path)
    if stat.S_IMODE(status.st_mode) != recorded["mode"]:
        found.append(f"{name} has mode {stat.S_IMODE(status.st_mode):o}")
    if status.st_uid != os.geteuid():
        found.append(f"{name} belongs to user {status.st_uid}")
    if file_digest(path) != recorded["sha256"]:
        found.append(f"{name} was altered")
    return found


def _check_architecture(path: str) -> None:
    """Refuse a program for another architecture.

    :raises AssetError: it is for another architecture
    """
    with open(path, "rb") as stream:
        head = stream.read(20)
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    machine, host = architecture_of_elf(number), os.uname().machine
    if machine != host:
        raise AssetError(
            f"{os.path.basename(path)} must be for this host's architecture, {host}, and is for {machine}",
            fix="Nothing was changed. Use the program for this host's architecture.",
        )
