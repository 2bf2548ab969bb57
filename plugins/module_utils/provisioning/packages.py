# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A distribution's package, unpacked into a directory of its own and never installed.

A guest needs a kernel and a busybox, and the distribution's are signed, current and at hand; but a kernel that is installed changes how
the host itself boots. So the package is downloaded by the distribution's own program, which checks its signature, and only unpacked.

Each version lies in C(ROOT/NAME_VERSION) with the digests of its files; C(ROOT/NAME) links to the one in use. A new one is made aside and
moved into place, so that what works is there until the moment it is replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from typing import Any, Iterator, NamedTuple

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    ConfigError,
    HostError,
    LockTimeout,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.programs import Ended, run
from ansible_collections.kata.hypervisor.plugins.module_utils.whole_files import replace_file

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
_SUMS = "SHA256SUMS"
_RECORD = "package.json"
_LOCK_SECONDS = 600
_COMMAND_SECONDS = 900


class Package(NamedTuple):
    """A package as the distribution offers it."""

    name: str
    version: str


@dataclasses.dataclass
class Unpacked:
    """One version of a package on this host.

    :param directory: where it lies
    :param packages: all that was unpacked into it
    :param damaged: files that are missing, added or other than they were when it was unpacked
    """

    name: str
    version: str
    directory: str
    packages: list[Package]
    damaged: list[str] = dataclasses.field(default_factory=list)

    def as_result(self) -> dict[str, Any]:
        """What a module returns about it."""
        return {
            "name": self.name,
            "version": self.version,
            "directory": self.directory,
            "packages": [package._asdict() for package in self.packages],
            "kernel": find_kernel(self.directory),
        }


class Apt:
    """Debian and Ubuntu."""

    def resolve(self, name: str, follow: str) -> list[Package]:
        """The package and those of its dependencies that match C(follow), theirs too."""
        found: list[Package] = []
        waiting = [name]
        while waiting:
            current = waiting.pop(0)
            if any(package.name == current for package in found):
                continue
            facts = self._show(current)
            found.append(Package(current, facts["Version"]))
            for clause in facts.get("Depends", "").split(","):
                dependency = clause.strip().partition(" ")[0].partition(":")[0]
                if follow and re.search(follow, dependency):
                    waiting.append(dependency)
        return found

    def refresh(self) -> None:
        """Fetch the lists of packages."""
        _run(["apt-get", "-q", "update"])

    def download(self, packages: list[Package], directory: str) -> list[str]:
        """Fetch the packages; apt checks them against its signed lists."""
        wanted = [f"{package.name}={package.version}" for package in packages]
        _run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *wanted], directory=directory)
        return sorted(os.path.join(directory, file) for file in os.listdir(directory) if file.endswith(".deb"))

    def unpack(self, file: str, directory: str) -> None:
        """Put a package's files into a directory."""
        _run(["dpkg-deb", "-x", file, directory])

    @staticmethod
    def _show(name: str) -> dict[str, str]:
        answer = _run(["apt-cache", "--quiet", "show", "--no-all-versions", name]).text
        facts: dict[str, str] = {}
        for line in answer.split("\n\n")[0].splitlines():
            key, colon, value = line.partition(": ")
            if colon and not line.startswith(" "):
                facts[key] = value
        if "Version" not in facts:
            raise HostError(f"The distribution offers no package {name}", option="name", wanted=name, answer=answer.strip())
        return facts


class Dnf:
    """Fedora, RHEL and their like; needs dnf's download plugin, rpm2cpio and cpio."""

    def resolve(self, name: str, follow: str) -> list[Package]:
        """The package and those of its dependencies that match C(follow)."""
        found = [self._query(name)]
        if follow:
            names = _run(["dnf", "-q", "repoquery", "--latest-limit=1", "--requires", "--resolve", "--queryformat", "%{name}\n", name]).text
            found += [self._query(other) for other in sorted(set(names.split())) if re.search(follow, other)]
        return found

    def refresh(self) -> None:
        """Fetch the lists of packages."""
        _run(["dnf", "-q", "makecache"])

    def download(self, packages: list[Package], directory: str) -> list[str]:
        """Fetch the packages; rpm checks their signatures."""
        _run(["dnf", "-q", "download", "--destdir", directory, *[f"{package.name}-{package.version}" for package in packages]])
        files = sorted(os.path.join(directory, file) for file in os.listdir(directory) if file.endswith(".rpm"))
        _run(["rpm", "--checksig", *files])
        return files

    def unpack(self, file: str, directory: str) -> None:
        """Put a package's files into a directory."""
        archive = _run(["rpm2cpio", file])
        _run(["cpio", "-id", "--quiet", "--no-absolute-filenames"], directory=directory, data=archive.output)

    @staticmethod
    def _query(name: str) -> Package:
        form = "%{version}-%{release}.%{arch}\n"
        answer = _run(["dnf", "-q", "repoquery", "--latest-limit=1", "--queryformat", form, name]).text.split()
        if not answer:
            raise HostError(f"The distribution offers no package {name}", option="name", wanted=name)
        return Package(name, answer[-1])


def package_manager() -> Apt | Dnf:
    """The one this host has.

    :raises HostError: it has none that this collection knows
    """
    if shutil.which("apt-get"):
        return Apt()
    if shutil.which("dnf"):
        return Dnf()
    raise HostError("This host has neither apt-get nor dnf", fix="Bring the files to the host as an archive instead.")


class PackageStore:
    """The unpacked packages below one directory.

    :param root: the directory, made when it is needed
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def converge(self, name: str, state: str, follow: str = "", check_mode: bool = False) -> dict[str, Any]:
        """Bring a package to a state: C(present) in whichever version, C(latest), or C(absent).

        :param follow: a pattern; dependencies of which the name matches are unpacked as well
        :returns: what the module returns
        :raises HostError: the package cannot be had; what was there is untouched
        """
        if not _NAME.fullmatch(name):
            raise ConfigError("This cannot be a package's name", option="name", wanted=name)
        if check_mode:
            return self._converge(name, state, follow, check_mode=True)
        try:
            os.makedirs(self.root, mode=0o755, exist_ok=True)
        except OSError as error:
            raise HostError("The directory cannot be made", wanted=self.root, answer=str(error)) from error
        with self._lock():
            return self._converge(name, state, follow, check_mode=False)

    def _converge(self, name: str, state: str, follow: str, check_mode: bool) -> dict[str, Any]:
        current = self.current(name)
        before = {"version": current.version} if current else {}
        if state == "absent":
            return self._remove(name, before, check_mode)
        actions: list[str] = []
        if current and current.damaged:
            actions.append(f"repair {current.version} ({', '.join(current.damaged[:5])})")
        elif current and state == "present":
            return {"changed": False, "actions": [], "diff": {"before": before, "after": before}, **current.as_result()}
        manager = package_manager()
        packages = self._resolve(manager, name, follow, check_mode)
        version = packages[0].version if packages else "unknown"
        if current and not current.damaged and current.version == version:
            return {"changed": False, "actions": [], "diff": {"before": before, "after": before}, **current.as_result()}
        actions.append(f"unpack {name} {version}")
        wanted = Unpacked(name, version, self._directory(name, version), packages)
        if not check_mode:
            self._fetch(manager, wanted)
        return {"changed": True, "actions": actions, "diff": {"before": before, "after": {"version": version}}, **wanted.as_result()}

    def current(self, name: str) -> Unpacked | None:
        """The version in use, its files compared with what was unpacked; None when there is none."""
        directory = os.path.realpath(os.path.join(self.root, name))
        try:
            with open(os.path.join(directory, _RECORD), encoding="utf-8") as stream:
                record = json.load(stream)
            packages = [Package(**package) for package in record["packages"]]
            return Unpacked(name, record["version"], directory, packages, _compare(directory))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return Unpacked(name, "unknown", directory, [], [_RECORD])

    def _directory(self, name: str, version: str) -> str:
        return os.path.join(self.root, f"{name}_{version.replace(':', '-')}")

    def _resolve(self, manager: Apt | Dnf, name: str, follow: str, check_mode: bool) -> list[Package]:
        try:
            return manager.resolve(name, follow)
        except HostError:
            if check_mode:
                # The lists of packages may be old or missing, and check mode does not fetch them.
                return []
        manager.refresh()
        return manager.resolve(name, follow)

    def _fetch(self, manager: Apt | Dnf, wanted: Unpacked) -> None:
        work = tempfile.mkdtemp(prefix=".new-", dir=self.root)
        try:
            downloads, tree = os.path.join(work, "downloads"), os.path.join(work, "tree")
            os.mkdir(downloads)
            os.mkdir(tree, 0o755)
            try:
                files = manager.download(wanted.packages, downloads)
            except HostError:
                # The lists may name a version that the archive has replaced since.
                manager.refresh()
                files = manager.download(wanted.packages, downloads)
            for file in files:
                manager.unpack(file, tree)
            sums = "".join(f"{digest}  {path}\n" for path, digest in sorted(_digests(tree).items()))
            replace_file(os.path.join(tree, _SUMS), sums.encode())
            record = {"name": wanted.name, "version": wanted.version, "packages": [package._asdict() for package in wanted.packages]}
            replace_file(os.path.join(tree, _RECORD), (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
            if os.path.lexists(wanted.directory):
                os.rename(wanted.directory, os.path.join(work, "old"))
            os.rename(tree, wanted.directory)
            link = os.path.join(work, "link")
            os.symlink(os.path.basename(wanted.directory), link)
            os.replace(link, os.path.join(self.root, wanted.name))
        except OSError as error:
            raise HostError("The package cannot be unpacked", wanted=wanted.directory, answer=str(error)) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _remove(self, name: str, before: dict[str, Any], check_mode: bool) -> dict[str, Any]:
        link = os.path.join(self.root, name)
        versions = list(self._versions(name))
        changed = bool(versions) or os.path.lexists(link)
        if changed and not check_mode:
            if os.path.lexists(link):
                os.unlink(link)
            for directory in versions:
                shutil.rmtree(directory)
        actions = [f"remove {os.path.basename(directory)}" for directory in versions]
        return {"changed": changed, "actions": actions, "diff": {"before": before, "after": {}}, "name": name}

    def _versions(self, name: str) -> Iterator[str]:
        if os.path.isdir(self.root):
            for entry in sorted(os.listdir(self.root)):
                if entry.startswith(name + "_"):
                    yield os.path.join(self.root, entry)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One play at a time: a second one finds the work done."""
        with open(os.path.join(self.root, ".lock"), "w", encoding="ascii") as stream:
            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise LockTimeout("Another task works on the packages", wanted=self.root) from error
                    time.sleep(0.2)
            yield


def find_kernel(directory: str) -> dict[str, str]:
    """The kernel in an unpacked package: its release, image, configuration and modules; empty when there is none."""
    modules = os.path.join(directory, "lib/modules")
    if not os.path.isdir(modules):
        modules = os.path.join(directory, "usr/lib/modules")
    for release in sorted(os.listdir(modules), reverse=True) if os.path.isdir(modules) else []:
        tree = os.path.join(modules, release)
        found = {"release": release, "modules_directory": tree}
        for key, name in (("path", "vmlinuz"), ("path", "vmlinux"), ("config", "config")):
            for candidate in (os.path.join(directory, "boot", f"{name}-{release}"), os.path.join(tree, name)):
                if key in found:
                    break
                if os.path.isfile(candidate):
                    found[key] = candidate
                    break
        if "path" in found:
            return found
    return {}


def _compare(directory: str) -> list[str]:
    recorded: dict[str, str] = {}
    try:
        with open(os.path.join(directory, _SUMS), encoding="utf-8") as stream:
            for line in stream:
                digest, _blank, path = line.rstrip("\n").partition("  ")
                recorded[path] = digest
    except OSError:
        return [_SUMS]
    found = _digests(directory)
    return sorted(path for path in recorded.keys() | found.keys() if recorded.get(path) != found.get(path))


def _digests(directory: str) -> dict[str, str]:
    digests = {}
    for folder, _folders, files in os.walk(directory):
        for file in files:
            path = os.path.join(folder, file)
            name = os.path.relpath(path, directory)
            if os.path.islink(path) or name in (_SUMS, _RECORD):
                continue
            try:
                with open(path, "rb") as stream:
                    digests[name] = hashlib.sha256(stream.read()).hexdigest()
            except OSError as error:
                raise AssetError("An unpacked file cannot be read", wanted=path, answer=str(error)) from error
    return digests


def _run(argv: list[str], directory: str = "/", data: bytes = b"") -> Ended:
    return run(argv, _COMMAND_SECONDS, directory=directory, data=data).checked()
