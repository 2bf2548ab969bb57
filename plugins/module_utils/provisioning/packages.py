# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A distribution's package, unpacked into a directory of its own and never installed.

A guest needs a kernel and a busybox, and the distribution's are signed, current and at hand; but a kernel that is installed changes how
the host itself boots. So the package is downloaded by the distribution's own program, which checks its signature, and only unpacked.

Each version lies in `ROOT/NAME_VERSION` with the digests of its files; `ROOT/NAME` links to the one in use. A new one is made aside and
moved into place, so that what works is there until the moment it is replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from typing import IO, TYPE_CHECKING, Any, Iterator, NamedTuple

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
from ..host.programs import Ended, pieces_of, run
from ..host.sparse_files import Writer
from .compression import Limit

if TYPE_CHECKING:
    from .archives import Tree

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
_SUMS = "SHA256SUMS"
_RECORD = "package.json"
_LOCK_SECONDS = 600
_COMMAND_SECONDS = 900
_MOST_RECORD = 1 << 20


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


#: What apt-cache ends with if there is none of the packages.
NO_PACKAGES = 100


class Apt:
    """Debian and Ubuntu."""

    def resolve(self, name: str, follow: str) -> list[Package]:
        """The package and those of its dependencies that match `follow`, theirs too.

        :raises HostError: there is no such package. A dependency that no package has as its name is left out
        """
        found: dict[str, Package] = {}
        waiting = [name]
        while waiting:
            # One call for all of one depth, since each call reads the lists of all packages.
            shown = self._show(waiting)
            if not found and name not in shown:
                raise HostError(f"The distribution offers no package {name}", option="name", wanted=name)
            found |= {one: Package(one, shown[one]["Version"]) for one in waiting if one in shown}
            clauses = [clause for one in waiting for clause in shown.get(one, {}).get("Depends", "").split(",")]
            dependencies = [clause.strip().partition(" ")[0].partition(":")[0] for clause in clauses]
            wanted = [other for other in dependencies if follow and re.search(follow, other) and other not in found]
            waiting = list(dict.fromkeys(wanted))
        return list(found.values())

    def refresh(self) -> None:
        """Fetch the lists of packages."""
        _run(["apt-get", "-q", "update"])

    def download(self, packages: list[Package], directory: str) -> list[str]:
        """Fetch the packages; apt checks them against its signed lists."""
        wanted = [f"{package.name}={package.version}" for package in packages]
        _run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *wanted], directory=directory)
        return sorted(os.path.join(directory, file) for file in os.listdir(directory) if file.endswith(".deb"))

    def unpack(self, file: str, tree: Tree) -> None:
        """Put a package's files into a directory."""
        _unpack(["dpkg-deb", "--fsys-tarfile", "/dev/stdin"], file, tree)

    @staticmethod
    def _show(names: list[str]) -> dict[str, dict[str, str]]:
        """The fields of each of these packages that there is."""
        shown: dict[str, dict[str, str]] = {}
        ended = run(["apt-cache", "--quiet", "show", "--no-all-versions", *names], _COMMAND_SECONDS)
        if ended.code != NO_PACKAGES:
            ended.raise_on_failure()
        for record in ended.text.split("\n\n"):
            lines = [line.partition(": ") for line in record.splitlines() if not line.startswith(" ")]
            facts = {key: value for key, colon, value in lines if colon}
            if "Version" in facts:
                shown.setdefault(facts["Package"], facts)
        return shown


class Dnf:
    """Fedora, RHEL and their like; needs dnf's download plugin and rpm2cpio."""

    def resolve(self, name: str, follow: str) -> list[Package]:
        """The package and those of its dependencies that match `follow`."""
        found = [self._query(name)]
        if follow:
            names = _run(
                [
                    "dnf",
                    "-q",
                    "repoquery",
                    "--latest-limit=1",
                    "--requires",
                    "--resolve",
                    "--queryformat",
                    "%{name}\n",
                    name,
                ]
            ).text
            found += [self._query(other) for other in sorted(set(names.split())) if re.search(follow, other)]
        return found

    def refresh(self) -> None:
        """Fetch the lists of packages."""
        _run(["dnf", "-q", "makecache"])

    def download(self, packages: list[Package], directory: str) -> list[str]:
        """Fetch the packages; rpm checks their signatures."""
        _run(
            [
                "dnf",
                "-q",
                "download",
                "--destdir",
                directory,
                *[f"{package.name}-{package.version}" for package in packages],
            ]
        )
        files = sorted(os.path.join(directory, file) for file in os.listdir(directory) if file.endswith(".rpm"))
        _run(["rpm", "--checksig", *files])
        return files

    def unpack(self, file: str, tree: Tree) -> None:
        """Put a package's files into a directory."""
        _unpack(["rpm2cpio", "-"], file, tree)

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
        """Bring a package to a state: `present` in whichever version, `latest`, or `absent`.

        :param follow: a pattern; dependencies of which the name matches are unpacked as well
        :returns: what the module returns
        :raises HostError: the package cannot be had; what was there is untouched
        """
        if not _NAME.fullmatch(name):
            raise ConfigError("This cannot be a package's name", option="name", wanted=name)
        if check_mode:
            return self._converge(name, state, follow, check_mode=True)
        try:
            make_directories(self.root)
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
        return {
            "changed": True,
            "actions": actions,
            "diff": {"before": before, "after": {"version": version}},
            **wanted.as_result(),
        }

    def current(self, name: str) -> Unpacked | None:
        """The version in use, its files compared with what was unpacked; None when there is none."""
        directory = os.path.realpath(os.path.join(self.root, name))
        if not os.path.isdir(directory):
            return None
        record = _record(directory)
        if not record:
            return Unpacked(name, "unknown", directory, [], [_RECORD])
        packages = [Package(**package) for package in record["packages"]]
        return Unpacked(name, record["version"], directory, packages, _compare(directory))

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
        from .archives import Tree

        try:
            with draft_directory(self.root) as work:
                downloads, directory = os.path.join(work, "downloads"), os.path.join(work, "tree")
                os.mkdir(downloads)
                make_directories(directory)
                try:
                    files = manager.download(wanted.packages, downloads)
                except HostError:
                    # The lists may name a version that the archive has replaced since.
                    manager.refresh()
                    files = manager.download(wanted.packages, downloads)
                tree = Tree(directory)
                for file in files:
                    manager.unpack(file, tree)
                tree.finish()
                self._put(directory, wanted, work)
        except OSError as error:
            raise write_problem(error, "The package cannot be unpacked", wanted.directory) from error

    def _put(self, tree: str, wanted: Unpacked, work: str) -> None:
        """Move a version to its place, with its digests, and have the link lead to it."""
        digests = "".join(f"{digest}  {path}\n" for path, digest in sorted(_digests(tree).items()))
        replace_file(os.path.join(tree, _SUMS), os.fsencode(digests))
        record = {
            "name": wanted.name,
            "version": wanted.version,
            "packages": [package._asdict() for package in wanted.packages],
        }
        replace_file(os.path.join(tree, _RECORD), (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
        sync_tree(tree)
        if os.path.lexists(wanted.directory):
            os.rename(wanted.directory, os.path.join(work, "old"))
        put_in_place(tree, wanted.directory)
        link = os.path.join(work, "link")
        os.symlink(os.path.basename(wanted.directory), link)
        put_in_place(link, os.path.join(self.root, wanted.name))

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
        """The directories of a package's versions. Names may have a _ too, so what a directory itself says counts."""
        for entry in sorted(os.listdir(self.root)) if os.path.isdir(self.root) else []:
            path = os.path.join(self.root, entry)
            if not entry.startswith(name + "_") or not os.path.isdir(path) or os.path.islink(path):
                continue
            its_name = _record(path).get("name")
            # Without a record that can be read: no version begins with anything but a digit or, of an epoch, digits and a dash.
            if its_name == name or (its_name is None and entry[len(name) + 1 : len(name) + 2].isdigit()):
                yield path

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the lock of the packages. A second play waits, and then finds the work done."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(os.path.join(self.root, ".lock"), _LOCK_SECONDS, "the packages", "root"))
            except OSError as error:
                raise HostError(
                    "the lock cannot be made", option="root", wanted=self.root, answer=str(error)
                ) from error
            yield


def _record(directory: str) -> dict[str, Any]:
    """What is noted of an unpacked version; empty when nothing is, or when it cannot be read."""
    try:
        with open(os.path.join(directory, _RECORD), encoding="utf-8") as stream:
            found = json.loads(stream.read(_MOST_RECORD))
        packages = [{"name": str(package["name"]), "version": str(package["version"])} for package in found["packages"]]
        return {"name": str(found["name"]), "version": str(found["version"]), "packages": packages}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _copy_output(argv: list[str], source: IO[bytes], writer: Writer, limit: Limit) -> Ended:
    """Run a program, and write its output. Returns how it ended."""
    pieces = pieces_of(argv, _COMMAND_SECONDS, source)
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            writer.finish()
            ended: Ended = end.value
            return ended
        limit.take(len(piece))
        writer.write(piece)


def _unpack(argv: list[str], file: str, tree: Tree) -> None:
    """Put the files of a package into a directory.

    :param argv: makes a plain tar or cpio archive of what it reads
    :raises HostError: the program failed, the error has its output
    :raises AssetError: the archive is damaged, or leads outside
    """
    from .archive_formats import opened
    from .archives import Archive

    with open(file, "rb") as source, tempfile.TemporaryFile(dir=os.path.dirname(file)) as plain:
        limit, writer = Limit(file, os.fstat(source.fileno()).st_size), Writer(plain.fileno())
        _copy_output(argv, source, writer, limit).raise_on_failure()
        with opened(plain, file) as members:
            Archive(members, Limit(file, os.fstat(source.fileno()).st_size)).extract_all(tree)


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
        with open(os.path.join(directory, _SUMS), encoding="utf-8", errors="surrogateescape") as stream:
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
                digests[name] = _digest(path)
            except OSError as error:
                raise AssetError("An unpacked file cannot be read", wanted=path, answer=str(error)) from error
    return digests


def _digest(path: str) -> str:
    """A file's digest; something that is no file has none that is right."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return "no file"
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _run(argv: list[str], directory: str = "/", data: bytes = b"") -> Ended:
    return run(argv, _COMMAND_SECONDS, directory=directory, data=data).raise_on_failure()
