# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versioned assets: several versions of a thing side by side, one of them in use, each file's digest known.

    ROOT/NAME/VERSION/          the files, and .asset.json with their digests
    ROOT/NAME/current           a link to the version in use, switched in one step

A version appears whole or not at all. What is installed is compared with what was installed on every run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from typing import Any, Callable, Iterator

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    ConfigError,
    HostError,
    HypervisorError,
    LockTimeout,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.whole_files import replace_file

MANIFEST = ".asset.json"
CURRENT = "current"
LOCK_SECONDS = 1800
CHUNK = 1 << 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_LENGTHS = {"sha256": 64, "sha512": 128}


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One file, or with a slash at its end one directory, of a version.

    :param member: its path in the archive; empty when the source is the file itself
    :param dest: its path below the version's directory
    :param mode: its permissions; None keeps the archive's
    """

    member: str
    dest: str
    mode: int | None = None

    @classmethod
    def parse(cls, options: dict[str, Any], version: str, arch: str) -> Wanted:
        """A file as a task lists it; C({version}) and C({arch}) are filled in.

        :raises ConfigError: it would land outside the version's directory, or its mode is none or lets others write
        """
        member = (options.get("member") or "").replace("{version}", version).replace("{arch}", arch)
        dest = options.get("dest") or os.path.basename(member.rstrip("/"))
        if not dest or os.path.isabs(dest) or ".." in dest.split("/") or dest in (MANIFEST, CURRENT):
            raise ConfigError("this is no path below the version's directory", option="files", wanted=dest)
        mode = None
        if options.get("mode"):
            try:
                mode = int(str(options["mode"]), 8)
            except ValueError as problem:
                raise ConfigError("this is no octal number", option="files", wanted=options["mode"]) from problem
            if mode & 0o7022:
                raise ConfigError("others could change such a file, or it would run as its owner", option="files", wanted=options["mode"])
        return cls(member, dest.rstrip("/"), mode)


@dataclasses.dataclass(frozen=True)
class Checksum:
    """The digest that a source must have."""

    algorithm: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Checksum:
        """From C(sha256:DIGEST) or C(sha512:DIGEST).

        :raises ConfigError: it is neither
        """
        algorithm, _colon, digest = text.partition(":")
        if len(digest) != _LENGTHS.get(algorithm, -1) or not re.fullmatch(r"[0-9a-fA-F]+", digest):
            raise ConfigError("this is no checksum", option="checksum", wanted=text, fix="Give sha256: or sha512: and the digits.")
        return cls(algorithm, digest.lower())

    def check(self, path: str) -> None:
        """Compare a file's digest.

        :raises AssetError: it has another one
        """
        found = file_digest(path, self.algorithm)
        if found != self.digest:
            raise AssetError(
                f"the source has the {self.algorithm} digest {found}, so it is not what was asked for",
                option="checksum",
                wanted=self.digest,
                fix="Nothing was changed. Get the right file, or correct the checksum.",
            )


#: Brings the source to a directory and tells its path there.
Fetch = Callable[[str], str]
#: Raises an error for a file that is not what it should be.
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

    # --- what there is ---------------------------------------------------------------------------------------------

    def current(self) -> str:
        """The version in use, empty when there is none."""
        try:
            return os.path.basename(os.readlink(os.path.join(self.directory, CURRENT)))
        except OSError:
            return ""

    def versions(self) -> list[str]:
        """The versions that are installed, the one installed last first."""
        try:
            found = [name for name in os.listdir(self.directory) if os.path.isfile(self.path(name, MANIFEST)) and name != CURRENT]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(found, key=lambda name: os.stat(self.path(name, MANIFEST)).st_mtime_ns, reverse=True)

    def path(self, version: str, *parts: str) -> str:
        """A path below a version's directory."""
        return os.path.join(self.directory, version, *parts)

    def manifest(self, version: str) -> dict[str, Any]:
        """What was installed as this version; empty when it is not there or cannot be read."""
        try:
            with open(self.path(version, MANIFEST), encoding="utf-8") as stream:
                manifest = json.load(stream)
            return manifest if isinstance(manifest.get("files"), dict) else {}
        except (OSError, ValueError, AttributeError):
            return {}

    def drift(self, version: str) -> list[str]:
        """What is no longer as it was installed, for people; empty when all is well."""
        recorded: dict[str, Any] = self.manifest(version).get("files", {})
        found = []
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

    # --- what is done ----------------------------------------------------------------------------------------------

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
    ) -> list[str]:
        """Have a version, undamaged, and use it when C(use) says so; what was done.

        :param sums: member of the archive with further digests, as C(sha256sum) writes them; empty for none
        :param content: refuses a first file that is not what it should be
        :raises AssetError: the source is not what was asked for; what is installed stays as it is
        """
        _check_name("version", version)
        actions = []
        manifest = self.manifest(version)
        damage = self.drift(version) if manifest else []
        other = bool(manifest and checksum and manifest.get("source") != f"{checksum.algorithm}:{checksum.digest}")
        other = other or bool(manifest and wanted and manifest.get("wanted") != _described(wanted))
        if damage or other or not manifest:
            why = f"repair {self.name} {version} ({', '.join(damage[:5])})" if damage else f"install {self.name} {version}"
            actions.append(why if (manifest and not other) or not manifest else f"install another {self.name} {version}")
            if not check_mode:
                self._install(version, wanted, fetch, checksum, sums, content)
        return actions + (self.use(version, check_mode) if use else [])

    def use(self, version: str, check_mode: bool) -> list[str]:
        """Switch to a version that is installed; what was done."""
        before = self.current()
        if before == version:
            return []
        if not check_mode:
            draft = os.path.join(self.directory, ".current.new")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
            os.symlink(version, draft)
            os.replace(draft, os.path.join(self.directory, CURRENT))
        return [f"use {self.name} {version}" + (f" instead of {before}" if before else "")]

    def prune(self, keep: int, spare: str, check_mode: bool) -> list[str]:
        """Remove the oldest versions, but C(keep) beside the one in use, and none that a process runs; what was done."""
        others = [version for version in self.versions() if version not in (self.current(), spare)]
        used = programs_running()
        actions = []
        for version in others[keep:]:
            if any(program.startswith(self.path(version) + "/") for program in used):
                continue
            actions.append(f"remove {self.name} {version}")
            if not check_mode:
                shutil.rmtree(self.path(version))
        return actions

    def remove(self, version: str, check_mode: bool) -> list[str]:
        """Remove a version, or all of them when none is named; what was done.

        :raises HostError: the version is in use
        """
        if version and version == self.current() and len(self.versions()) > 1:
            raise HostError(
                "this version is in use", option="version", wanted=version, fix="Switch to another one first, by having that present."
            )
        doomed = [name for name in self.versions() if not version or name == version]
        busy = [program for program in programs_running() if any(program.startswith(self.path(name) + "/") for name in doomed)]
        if busy:
            raise HostError(f"a process runs {busy[0]}", option="state", wanted="absent", fix="Stop the sandboxes that use it first.")
        if not doomed and (version or not os.path.lexists(self.directory)):
            return []
        if not check_mode:
            for name in doomed:
                shutil.rmtree(self.path(name))
            if not self.versions():
                shutil.rmtree(self.directory, ignore_errors=True)
        return [f"remove {self.name} {name}" for name in doomed]

    def _install(
        self, version: str, wanted: list[Wanted], fetch: Fetch, checksum: Checksum | None, sums: str, content: Check | None
    ) -> None:
        os.makedirs(self.directory, mode=0o755, exist_ok=True)
        work = tempfile.mkdtemp(prefix=".new-", dir=self.directory)
        try:
            source = fetch(work)
            if checksum:
                checksum.check(source)
            tree = os.path.join(work, "tree")
            os.mkdir(tree, 0o755)
            self._unpack(source, wanted, sums, tree)
            if content:
                content(os.path.join(tree, wanted[0].dest))
            manifest = {
                "name": self.name,
                "version": version,
                "source": f"{checksum.algorithm}:{checksum.digest}" if checksum else f"unverified sha256:{file_digest(source)}",
                "wanted": _described(wanted),
                "files": {name: _recorded(os.path.join(tree, name)) for name in _files_below(tree)},
            }
            replace_file(os.path.join(tree, MANIFEST), (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
            final = self.path(version)
            if os.path.lexists(final):
                os.rename(final, os.path.join(work, "old"))
            os.rename(tree, final)
        except OSError as problem:
            full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
            raise HostError(
                "the disk is full" if full else "the asset cannot be installed",
                wanted=self.path(version),
                answer=str(problem),
                fix="What was installed before is still there." + (" Make room there." if full else ""),
            ) from problem
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _unpack(self, source: str, wanted: list[Wanted], sums: str, tree: str) -> None:
        members = [file for file in wanted if file.member]
        if members:
            from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.archives import Archive

            with Archive.open(source) as archive:
                digests = archive.checksums(sums) if sums else {}
                for file in members:
                    archive.extract(file.member, os.path.join(tree, file.dest), file.mode, digests)
        for file in wanted:
            if not file.member:
                path = os.path.join(tree, file.dest)
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                shutil.copyfile(source, path)
                os.chmod(path, file.mode if file.mode is not None else 0o644)
        for name in _files_below(tree):
            path = os.path.join(tree, name)
            if not os.path.islink(path):
                _check_architecture(path)
                with open(path, "rb") as stream:
                    os.fsync(stream.fileno())

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One play at a time: a second one waits and finds the work done.

        :raises LockTimeout: it waited too long
        """
        try:
            os.makedirs(self.root, mode=0o755, exist_ok=True)
            descriptor = os.open(os.path.join(self.root, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise HostError("the directory of the assets cannot be made", option="root", wanted=self.root, answer=str(problem)) from problem
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise LockTimeout("another task works on the assets", option="root", wanted=self.root)
                time.sleep(0.2)
            yield
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def file_digest(path: str, algorithm: str = "sha256") -> str:
    """A file's digest in hexadecimal.

    :raises AssetError: it cannot be read
    """
    digest = hashlib.new(algorithm)
    try:
        with open(path, "rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
    except OSError as problem:
        raise AssetError("a file cannot be read", wanted=path, answer=str(problem)) from problem
    return digest.hexdigest()


def programs_running() -> set[str]:
    """The programs that processes of this host run."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{name}/exe"))
    return found


def _check_name(option: str, text: str) -> None:
    if not _NAME.fullmatch(text) or text == CURRENT:
        raise ConfigError(f"this cannot be a {option}", option=option, wanted=text)


def _described(wanted: list[Wanted]) -> list[list[Any]]:
    return [[file.member, file.dest, file.mode] for file in wanted]


def _files_below(directory: str) -> list[str]:
    """The files and links of a tree, by their paths below it, without the manifest."""
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
        return [f"{name} is no file"]
    found = []
    status = os.stat(path)
    if stat.S_IMODE(status.st_mode) != recorded["mode"]:
        found.append(f"{name} has mode {stat.S_IMODE(status.st_mode):o}")
    if status.st_uid != os.geteuid():
        found.append(f"{name} belongs to user {status.st_uid}")
    if file_digest(path) != recorded["sha256"]:
        found.append(f"{name} was altered")
    return found


#: Numbers of ELF's e_machine.
MACHINES = {62: "x86_64", 183: "aarch64", 21: "ppc64le", 22: "s390x"}


def _check_architecture(path: str) -> None:
    """Refuse a program for another kind of machine.

    :raises AssetError: it is one
    """
    with open(path, "rb") as stream:
        head = stream.read(20)
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    machine, host = MACHINES.get(number, f"machine {number}"), os.uname().machine
    if machine != host:
        raise AssetError(f"{os.path.basename(path)} is for {machine}, and this host is {host}", fix="Nothing was changed. Get the one for this host.")


def fetch_from(url: str, source: str, root: str, checksum: Checksum | None, seconds: float = 0) -> Fetch:
    """How the source is brought: a file of the host is used where it is, a URL is downloaded, and taken up again where it broke off.

    :param seconds: how long a download may take before C(downloads.Unfinished) is raised; 0 for as long as it takes
    """

    def fetch(work: str) -> str:
        if source:
            if not os.path.isfile(source):
                raise AssetError("there is no such file on the host", option="src", wanted=source)
            return source
        if not url:
            raise AssetError("it is not installed undamaged, and neither url nor src say where it can be had", option="url")
        from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.downloads import download

        # By what it should be, so that a broken download is taken up by the next run and by no other.
        key = checksum.digest if checksum else hashlib.sha256(url.encode()).hexdigest()
        partial = os.path.join(root, f".download-{key[:32]}")
        try:
            download(url, partial, resume=checksum is not None, seconds=seconds)
            if checksum:
                checksum.check(partial)
        except AssetError as problem:
            if problem.option == "checksum":
                os.unlink(partial)
            raise
        target = os.path.join(work, "source")
        os.rename(partial, target)
        return target

    return fetch


def refuse_vulnerable(name: str, version: str, wanted: list[Wanted]) -> None:
    """Refuse a version with known holes.

    :raises HypervisorError: names them
    """
    if name != "firecracker":
        return
    from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.dialect import (
        known_holes,
        parse_version,
    )

    numbers = parse_version(version if version.startswith("v") else f"v{version}")
    jailed = any(file.dest == "jailer" for file in wanted)
    holes = [*known_holes(numbers, False, False), *(known_holes(numbers, True, False) if jailed else [])] if numbers else []
    if holes:
        raise HypervisorError(
            f"{name} {version} is vulnerable: " + "; ".join(sorted({f"{hole.name}, {hole.what}" for hole in holes})),
            option="version",
            wanted=version,
            fix="Choose a version without it, or set allow_vulnerable to have this one all the same.",
        )
