# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extract chosen members, or all, of a tar, zip or cpio archive (plain, gzip, bzip2, xz, lz4, zstd). Nothing is written outside the target directory.

Directories are entered one by one, and never through a link. Links are created last, and each must lead to a path inside the directory.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
import tempfile
from typing import IO, Iterator

from ..errors import AssetError
from ..host.sparse_files import Writer
from ..untrusted.files import Directory, UntrustedFile
from . import sums
from .archive_formats import DIRECTORY, FILE, HARD_LINK, LINK, PROBLEMS, Member, opened
from .compression import MOST_BYTES, Limit, decompress_file, is_compressed

CHUNK = 1 << 20
#: How many links are followed in a row, as in Linux (path_resolution(7)).
MOST_LINKS = 40


class Archive:
    """An open archive.

    :param members: its members by name
    :param limit: how many bytes may be extracted
    """

    def __init__(self, members: dict[str, Member], limit: Limit) -> None:
        self.members = members
        self.limit = limit
        # Sparse files need little space, so for them the limit only bounds the time to read them.
        self._sparse_limit = Limit(limit.path, 0, max(MOST_BYTES, limit.most))

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str, most: int = 0) -> Iterator[Archive]:
        """Open an archive of any kind. A compressed one is decompressed to a file without a name in the same directory.

        :param most: how many bytes may be extracted; 0 for the default limit
        :raises AssetError: it is not an archive, is truncated, or exceeds the limit
        :raises HostError: the host does not have the program for zstd
        """
        with contextlib.ExitStack() as stack:
            try:
                stream: IO[bytes] = stack.enter_context(open(path, "rb"))
                head, size = stream.read(6), os.fstat(stream.fileno()).st_size
            except OSError as problem:
                raise AssetError("the archive cannot be read", wanted=path, answer=str(problem)) from problem
            if is_compressed(head):
                stream.seek(0)
                plain = stack.enter_context(tempfile.TemporaryFile(dir=os.path.dirname(path), prefix=".tar-"))
                decompress_file(stream, path, Writer(plain.fileno()), Limit(path, size, most))
                stream = plain
            members = stack.enter_context(opened(stream, path))
            yield cls(members, Limit(path, size, most))

    def extract(self, member: str, tree: Tree, dest: str, mode: int | None, listed: list[sums.Listed] | None) -> None:
        """Write a member to a tree: a file or, if the name ends in a slash, everything below it.

        :param listed: the digests of a list in the archive, which every file must match; None for no list
        :raises AssetError: the member does not exist, is damaged, or leads outside
        """
        prefix = os.path.normpath(member)
        if not member.endswith("/"):
            self._extract_file(prefix, tree, dest, mode, listed)
            return
        below = [
            name for name in self.members if name.startswith(prefix + "/") and self.members[name].kind != DIRECTORY
        ]
        if not below:
            raise self._missing(member)
        for name in below:
            target = os.path.join(dest, os.path.relpath(name, prefix))
            if self.members[name].kind == LINK:
                tree.link(target, self.members[name].target, dest)
            else:
                self._extract_file(name, tree, target, mode, listed)

    def extract_all(self, tree: Tree) -> None:
        """Write all members to a tree. The targets of absolute links are taken relative to the tree.

        :raises AssetError: a member is damaged, or leads outside
        """
        for name, member in self.members.items():
            if name == ".":
                continue
            if member.kind == DIRECTORY:
                tree.directory(name)
            elif member.kind == LINK:
                absolute = member.target.startswith("/")
                tree.link(
                    name,
                    os.path.relpath(member.target.lstrip("/") or ".", os.path.dirname(name))
                    if absolute
                    else member.target,
                )
            else:
                self._extract_file(name, tree, name, None, None)

    def listed(self, member: str) -> list[sums.Listed]:
        """The digests in a member that is a list of digests.

        :raises AssetError: the member does not exist, or lists no digests
        """
        name = os.path.normpath(member)
        with self._content(self._resolve(name)) as stream:
            found = sums.parse(stream.read(sums.MOST_BYTES + 1))
        if not found:
            raise AssetError(
                "this member must be a list of digests",
                option="sums",
                wanted=member,
                fix="Set sums to the right member, or omit it.",
            )
        folder = os.path.dirname(name)
        return [line._replace(name=os.path.normpath(os.path.join(folder, line.name))) for line in found if line.name]

    def _extract_file(
        self, name: str, tree: Tree, dest: str, mode: int | None, listed: list[sums.Listed] | None
    ) -> None:
        wanted = self._digests(name, listed)
        member = self._resolve(name)
        found = sums.Digests(list(wanted))
        try:
            with self._content(member) as source, tree.file(dest, _mode(member) if mode is None else mode) as target:
                size = 0
                while chunk := source.read(CHUNK):
                    size += len(chunk)
                    (self._sparse_limit if member.sparse else self.limit).take(len(chunk))
                    found.update(chunk)
                    target.write(chunk)
        except OSError:
            raise
        except PROBLEMS as problem:
            raise AssetError(
                "the archive is damaged", wanted=name, answer=str(problem) or type(problem).__name__
            ) from problem
        if size != member.size:
            raise AssetError(
                "the archive must be complete", wanted=name, answer=f"{size} of {member.size} bytes are in it"
            )
        if found.found() != wanted:
            raise AssetError("a member must have its digest in the archive's list", option="sums", wanted=name)

    @staticmethod
    def _digests(name: str, listed: list[sums.Listed] | None) -> dict[str, str]:
        if listed is None:
            return {}
        found = sums.digests_of(listed, name)
        if not found:
            raise AssetError(
                "the archive's list must have a digest of each member",
                option="sums",
                wanted=name,
                answer=f"it lists {', '.join(line.name for line in listed[:10])}",
                fix="Set sums to the list that has it, or omit it.",
            )
        return found

    def _resolve(self, name: str) -> Member:
        """The file that a name leads to, through the archive's links.

        :raises AssetError: there is no file, or the links lead outside or in a loop
        """
        pending, links = name.split("/"), 0
        current: list[str] = []
        while True:
            member = self.members.get("/".join(current)) if current else None
            if member is not None and member.kind in (LINK, HARD_LINK):
                links += 1
                if links > MOST_LINKS or member.target.startswith("/"):
                    raise AssetError(
                        "a link of the archive leads nowhere",
                        wanted=name,
                        answer=f"{member.name} leads to {member.target}",
                    )
                pending = [*member.target.split("/"), *pending]
                current = [] if member.kind == HARD_LINK else current[:-1]
            elif not pending:
                break
            else:
                part = pending.pop(0)
                if part == ".." and not current:
                    raise AssetError("a link of the archive leads outside", wanted=name)
                if part == "..":
                    current.pop()
                elif part not in ("", "."):
                    current.append(part)
        if member is None or member.kind != FILE:
            if links:
                raise AssetError(
                    "a link of the archive leads nowhere",
                    wanted=name,
                    answer=f"it leads to {'/'.join(current)}",
                )
            raise self._missing(name)
        return member

    def _content(self, member: Member) -> IO[bytes]:
        try:
            if member.open is None:
                raise ValueError("it has no content")
            return member.open()
        except PROBLEMS as problem:
            raise AssetError(
                "the archive is damaged", wanted=member.name, answer=str(problem) or type(problem).__name__
            ) from problem

    def _missing(self, name: str) -> AssetError:
        return AssetError(
            "the archive must have this member",
            option="files",
            wanted=name,
            answer=f"it has {', '.join(sorted(name for name, member in self.members.items() if member.kind != DIRECTORY)[:10])}",
            fix="Nothing was changed. Correct the member's path; {version} and {arch} are filled in.",
        )


def _mode(member: Member) -> int:
    return 0o755 if member.mode & 0o111 else 0o644


class Tree:
    """A private directory that members are written to. Call `finish` after the last member.

    :param path: the existing directory
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._links: dict[str, tuple[str, str]] = {}

    @contextlib.contextmanager
    def file(self, name: str, mode: int) -> Iterator[Writer]:
        """Create a sparse file, or replace an existing one.

        :raises AssetError: there is a link or a directory at its path, or a link on the way
        """
        _check_by_python(name, "", self.path)
        with self._parent(name) as (parent, last):
            found = parent.status(last)
            if found is not None:
                with _through_link(name):
                    os.close(parent.open_file(last))  # Raises unless it is a file.
                parent.unlink(last)
            descriptor = parent.create(last, mode)
            try:
                writer = Writer(descriptor)
                yield writer
                writer.finish()
            finally:
                os.close(descriptor)

    def directory(self, name: str) -> None:
        """Create a directory unless it exists.

        :raises AssetError: there is another file at its path, or a link on the way
        """
        if os.path.normpath(name) != ".":
            with self._parent(os.path.join(name, "x")):
                pass

    def link(self, name: str, target: str, below: str = ".") -> None:
        """Remember a link that `finish` creates.

        :param below: the directory of the tree that it may not lead out of
        :raises AssetError: it is absolute, or its text leads outside
        """
        reached = os.path.normpath(os.path.join(os.path.dirname(name), target))
        within = not reached.startswith("..") if below == "." else (reached + "/").startswith(below + "/")
        if os.path.isabs(target) or not target or "\0" in target or not within:
            raise AssetError("a link of the archive leads outside", wanted=name, answer=f"it leads to {target}")
        self._links[name] = (target, below)

    def finish(self) -> None:
        """Create the links, and check that all links of the tree lead to paths inside it.

        :raises AssetError: a link leads outside or in a loop, or another file is at its path
        """
        for name, (target, _below) in self._links.items():
            with self._parent(name) as (parent, last):
                try:
                    os.symlink(target, last, dir_fd=parent.descriptor)
                except FileExistsError as problem:
                    raise AssetError(
                        "a link of the archive must not have the name of another member", wanted=name
                    ) from problem
        for name, (target, below) in self._links.items():
            if not leads_inside(os.path.join(self.path, below), os.path.relpath(name, below)):
                raise AssetError(
                    "a link of the archive leads outside, or in a loop",
                    wanted=name,
                    answer=f"it leads to {target}",
                )
            _check_by_python(name, target, self.path)
        self._links = {}

    @contextlib.contextmanager
    def _parent(self, name: str) -> Iterator[tuple[Directory, str]]:
        """The directory that contains a name, and the last part of the name. Directories are entered one by one, and created if missing."""
        *folders, last = name.split("/")
        with contextlib.ExitStack() as stack:
            with _through_link(name):
                current = stack.enter_context(Directory.open(self.path))
                for folder in folders:
                    if current.status(folder) is None:
                        current = stack.enter_context(current.make_directory(folder, 0o755))
                    else:
                        current = stack.enter_context(current.enter(folder))
            yield current, last


@contextlib.contextmanager
def _through_link(name: str) -> Iterator[None]:
    """Raise typed errors for names that lead through a link, or are in use."""
    try:
        yield
    except (UntrustedFile, NotADirectoryError) as problem:
        raise AssetError(
            "a member must not be written through a link, or over another file", wanted=name, answer=str(problem)
        ) from problem
    except OSError as problem:
        import errno

        if problem.errno in (errno.ELOOP, errno.EISDIR):
            raise AssetError(
                "a member must not be written through a link", wanted=name, answer=str(problem)
            ) from problem
        raise


def leads_inside(root: str, name: str) -> bool:
    """Whether a path below a directory stays below it, even through links. Its target need not exist."""
    pending, links = name.split("/"), 0
    current: list[str] = []
    while pending:
        part = pending.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            if not current:
                return False
            current.pop()
            continue
        here = os.path.join(root, *current, part)
        try:
            target = os.readlink(here)
        except OSError:
            current.append(part)  # It is not a link, or does not exist.
            continue
        links += 1
        if links > MOST_LINKS or target.startswith("/"):
            return False
        pending = [*target.split("/"), *pending]
    return True


def _check_by_python(name: str, target: str, root: str) -> None:
    """Check a member also with Python's own filter (PEP 706), if this Python has it.

    :raises AssetError: the filter refuses the member
    """
    check = getattr(tarfile, "data_filter", None)
    if check is None:
        return
    entry = tarfile.TarInfo(name)
    if target:
        entry.type, entry.linkname = tarfile.SYMTYPE, target
    try:
        check(entry, root)
    except (tarfile.TarError, OSError, ValueError) as problem:
        raise AssetError("a member must not lead out of the archive", wanted=name, answer=str(problem)) from problem
