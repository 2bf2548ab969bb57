# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files in directories that a VMM, a jail or another user can write to.

Another user who can write to a directory can replace a file by a link, a FIFO or a device, and exchange a directory between a check and its use.
So no file there is opened by its path. A directory is held open, and its entries are named relative to its descriptor (openat(2)). Links are never
followed, and nothing blocks. Owner and mode are changed through the descriptor of the file that was checked.

Each name is a single component, so no name leads out of its directory. This works on every kernel; `RESOLVE_BENEATH` of openat2(2) does not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Iterator

from ..errors import HostError

#: Flags of every descriptor that is opened here.
SAFE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
#: O_PATH: a descriptor that names a file without opening it. Python has it on Linux only.
PATH_ONLY = getattr(os, "O_PATH", 0o10000000) | os.O_NOFOLLOW | os.O_CLOEXEC
#: The default limit of `Directory.read`, bytes.
READ_LIMIT = 1 << 20


class UntrustedFile(HostError):
    """An entry must not be used: it is a link or of another type, belongs to another user, or has more than one name."""


def _component(name: str) -> str:
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise UntrustedFile("must be the name of an entry of a directory", wanted=name)
    return name


class Directory:
    """A directory held open. Close it, or use it as a context manager.

    :param descriptor: a descriptor of the directory; it is closed with this object
    :param path: for error messages only
    """

    def __init__(self, descriptor: int, path: str) -> None:
        self.descriptor = descriptor
        self.path = path

    @classmethod
    def open(cls, path: str) -> Directory:
        """Open a directory whose parents are trusted (see `check_parents`); the directory itself may belong to any user, but must not be a link.

        :raises FileNotFoundError: it does not exist
        :raises OSError: it is a link, not a directory, or cannot be opened
        """
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | SAFE), path)

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _join(self, name: str) -> str:
        return os.path.join(self.path, name)

    # --- reading -----------------------------------------------------------------------------------------------------

    def enter(self, name: str) -> Directory:
        """Open a directory below this one.

        :raises FileNotFoundError: it does not exist
        :raises OSError: it is a link or not a directory
        """
        descriptor = os.open(_component(name), os.O_RDONLY | os.O_DIRECTORY | SAFE, dir_fd=self.descriptor)
        return Directory(descriptor, self._join(name))

    def names(self) -> list[str]:
        """The names of the entries, sorted."""
        return sorted(os.listdir(self.descriptor))

    def status(self, name: str) -> os.stat_result | None:
        """The status of an entry; None if it does not exist. Links are not followed."""
        try:
            return os.stat(_component(name), dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_file(self, name: str, flags: int = os.O_RDONLY, owners: tuple[int, ...] = (), links: int = 0) -> int:
        """Open an existing regular file. Returns its descriptor.

        :param flags: O_RDONLY, O_WRONLY or O_RDWR, optionally with O_APPEND
        :param owners: uids that may own it; empty for any
        :param links: how many names it must have; 0 for any number
        :raises FileNotFoundError: it does not exist
        :raises UntrustedFile: it is a link, a FIFO, a device, a socket or a directory, or belongs to another user, or has other names
        :raises OSError: it cannot be opened
        """
        before = self.status(name)
        if before is not None and not stat.S_ISREG(before.st_mode):
            # Opening a device can have effects, so it is not even tried.
            raise UntrustedFile(f"{self._join(name)} must be a regular file", answer=kind_name(before.st_mode))
        descriptor = os.open(_component(name), flags | SAFE, dir_fd=self.descriptor)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise UntrustedFile(f"{self._join(name)} must be a regular file", answer=kind_name(found.st_mode))
            if owners and found.st_uid not in owners:
                raise UntrustedFile(
                    f"{self._join(name)} must belong to user {owners[0]}", answer=f"it belongs to user {found.st_uid}"
                )
            if links and found.st_nlink != links:
                raise UntrustedFile(f"{self._join(name)} must have {links} name(s)", answer=f"it has {found.st_nlink}")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def read(self, name: str, limit: int = READ_LIMIT) -> bytes:
        """The content of a regular file.

        :param limit: the largest size, bytes
        :raises FileNotFoundError: it does not exist
        :raises UntrustedFile: it is not a regular file, or larger
        """
        descriptor = self.open_file(name)
        with open(descriptor, "rb") as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise UntrustedFile(f"{self._join(name)} must have at most {limit} bytes")
        return data

    def tail(self, name: str, size: int) -> bytes:
        """The last bytes of a regular file, at most `size`; empty if it does not exist or is not a regular file."""
        try:
            descriptor = self.open_file(name)
        except (OSError, UntrustedFile):
            return b""
        with open(descriptor, "rb") as stream, contextlib.suppress(OSError):
            stream.seek(max(0, os.fstat(descriptor).st_size - size))
            return stream.read(size)
        return b""

    @contextlib.contextmanager
    def socket(self, name: str, owners: tuple[int, ...] = ()) -> Iterator[str]:
        """A path that leads to a unix socket and to nothing else, even if its name is exchanged meanwhile.

        :param owners: uids that may own it; empty for any
        :raises FileNotFoundError: it does not exist
        :raises UntrustedFile: it is a link or of another type, or belongs to another user
        """
        with self.held(name) as descriptor:
            found = os.fstat(descriptor)
            if not stat.S_ISSOCK(found.st_mode):
                raise UntrustedFile(f"{self._join(name)} must be a socket", answer=f"it is {kind_name(found.st_mode)}")
            if owners and found.st_uid not in owners:
                raise UntrustedFile(
                    f"{self._join(name)} must belong to user {owners[0]}", answer=f"it belongs to user {found.st_uid}"
                )
            yield through(descriptor)

    # --- creating ----------------------------------------------------------------------------------------------------

    def create(self, name: str, mode: int = 0o600, uid: int = -1, gid: int = -1, size: int = 0) -> int:
        """Create a file. Returns its descriptor, open for reading and writing. Its mode does not depend on the umask.

        :param uid: its owner, -1 for the current user
        :param size: its size in bytes; the file is sparse
        :raises FileExistsError: an entry has this name
        :raises OSError: it cannot be created
        """
        descriptor = os.open(_component(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFE, 0o600, dir_fd=self.descriptor)
        try:
            os.fchmod(descriptor, mode)
            if size:
                os.ftruncate(descriptor, size)
            # Last, so that the new owner never sees an incomplete file.
            os.fchown(descriptor, uid, gid)
        except BaseException:
            os.close(descriptor)
            self.unlink(name)
            raise
        return descriptor

    def make_directory(self, name: str, mode: int = 0o700, uid: int = -1, gid: int = -1) -> Directory:
        """Create a directory and open it. Its mode does not depend on the umask.

        :raises FileExistsError: an entry has this name
        :raises UntrustedFile: another program exchanged it in that moment
        """
        os.mkdir(_component(name), 0o700, dir_fd=self.descriptor)
        made = self.enter(name)
        try:
            found = os.fstat(made.descriptor)
            if found.st_uid != os.geteuid() or os.listdir(made.descriptor):
                raise UntrustedFile(f"{made.path} was exchanged by another program while it was created")
            os.fchmod(made.descriptor, mode)
            os.fchown(made.descriptor, uid, gid)
        except BaseException:
            made.close()
            raise
        return made

    def make_node(self, name: str, kind: int, device: int, mode: int = 0o600, uid: int = -1, gid: int = -1) -> None:
        """Create a device node or a FIFO. Its mode does not depend on the umask.

        :param kind: `stat.S_IFBLK`, `stat.S_IFCHR` or `stat.S_IFIFO`
        :param device: its number (`st_rdev`), 0 for a FIFO
        :raises FileExistsError: the name is taken
        :raises UntrustedFile: another program exchanged it in that moment
        """
        os.mknod(_component(name), kind | 0o600, device, dir_fd=self.descriptor)
        with self.held(name) as descriptor:
            found = os.fstat(descriptor)
            if stat.S_IFMT(found.st_mode) != kind or found.st_rdev != device or found.st_uid != os.geteuid():
                raise UntrustedFile(f"{self._join(name)} was exchanged by another program while it was created")
            os.chmod(through(descriptor), mode)
            os.chown(through(descriptor), uid, gid)

    def link(self, descriptor: int, name: str) -> None:
        """Add a name in this directory to an open file (a hard link).

        :raises FileExistsError: an entry has this name
        :raises OSError: file and directory are on different file systems
        """
        os.link(through(descriptor), _component(name), dst_dir_fd=self.descriptor, follow_symlinks=True)

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[int]:
        """A descriptor that names an entry of any type without opening it (O_PATH). `through` gives a path for it.

        :raises FileNotFoundError: it does not exist
        """
        descriptor = os.open(_component(name), PATH_ONLY, dir_fd=self.descriptor)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    # --- removing ----------------------------------------------------------------------------------------------------

    def unlink(self, name: str) -> None:
        """Remove an entry that is not a directory. Idempotent."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_component(name), dir_fd=self.descriptor)

    def rename(self, name: str, target: Directory, new_name: str) -> None:
        """Move an entry to another directory, where it replaces an entry of that name. The caller must check the moved entry there."""
        os.rename(_component(name), _component(new_name), src_dir_fd=self.descriptor, dst_dir_fd=target.descriptor)

    def take_out(self, name: str, target: Directory, new_name: str, owners: tuple[int, ...]) -> int:
        """Move a regular file of another user out of this directory and become its owner. Returns its descriptor, open for reading.

        It is the file that was checked, and it has no other name.

        :param target: a directory that only we can write to
        :param owners: uids that may own the file
        :raises UntrustedFile: it is of another type, belongs to an unexpected user, or has other names
        :raises OSError: it cannot be moved; with EXDEV, it is on another file system
        """
        descriptor = self.open_file(name, owners=owners, links=1)
        try:
            self.rename(name, target, new_name)
            moved, found = target.status(new_name), os.fstat(descriptor)
            if moved is None or not os.path.samestat(moved, found) or found.st_nlink != 1:
                target.remove(new_name)
                raise UntrustedFile(f"{self._join(name)} was exchanged by another program while it was moved")
            os.fchown(descriptor, os.geteuid(), os.getegid())
            os.fchmod(descriptor, 0o600)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def close_to_others(self) -> None:
        """Make this directory private, so that no other user can write to it any more."""
        with contextlib.suppress(PermissionError):
            os.fchown(self.descriptor, os.geteuid(), os.getegid())
        with contextlib.suppress(PermissionError):
            os.fchmod(self.descriptor, 0o700)

    def remove(self, name: str) -> None:
        """Remove an entry with all that is below it. Idempotent. Links are removed, not followed. The depth of the tree needs no memory.

        A directory is made private first, so that other users cannot add files to it without end.

        :raises OSError: an entry cannot be removed, such as a mount point
        """
        top = self._enter_or_unlink(name)
        if top is None:
            return
        with top:
            top.close_to_others()
            top.clear()
        self._remove_empty(name)

    def clear(self) -> None:
        """Remove all entries and what is below them.

        Subdirectories are moved up before they are emptied, so neither the number of descriptors nor the recursion grows with depth.
        """
        while True:
            names = os.listdir(self.descriptor)
            if not names:
                return
            for name in names:
                self._remove_shallow(name)

    def _enter_or_unlink(self, name: str) -> Directory | None:
        """Open a directory. An entry of another type is removed, and the result is None."""
        found = self.status(name)
        if found is None:
            return None
        if stat.S_ISDIR(found.st_mode):
            with contextlib.suppress(NotADirectoryError):  # It was exchanged meanwhile; the new entry is removed too.
                return self.enter(name)
        self.unlink(name)
        return None

    def _remove_shallow(self, name: str) -> None:
        entered = self._enter_or_unlink(name)
        if entered is None:
            return
        with entered as inner:
            inner.close_to_others()
            for entry in os.listdir(inner.descriptor):
                below = inner.status(entry)
                if below is not None and stat.S_ISDIR(below.st_mode):
                    inner.rename(entry, self, f".removed-{os.urandom(8).hex()}")
                else:
                    inner.unlink(entry)
        self._remove_empty(name)

    def _remove_empty(self, name: str) -> None:
        """Remove an empty directory, or the entry that replaced it. A directory that is not empty stays for the next pass."""
        try:
            os.rmdir(_component(name), dir_fd=self.descriptor)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            self.unlink(name)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def through(descriptor: int) -> str:
    """A path to the file of a descriptor, for calls that only accept paths (proc(5), /proc/self/fd)."""
    return f"/proc/self/fd/{descriptor}"


def kind_name(mode: int) -> str:
    """The type of an entry, as a text for errors."""
    for test, word in (
        (stat.S_ISREG, "a regular file"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISCHR, "a character device"),
    ):
        if test(mode):
            return word
    return "of an unknown type"


def check_parents(path: str, option: str, itself: bool = True, fix: str = "", shared_groups: bool = False) -> None:
    """Refuse a path that another user could exchange. Every existing part must belong to root or to us, and no other user may write to it.

    A directory with the sticky bit (such as /tmp) is accepted as a parent, since users cannot rename the entries of others there. The target of a
    symbolic link is checked, and the link itself must belong to root or to us.

    :param option: the task's option that names the path
    :param itself: check the last part too, not only its parents
    :param shared_groups: accept parts that a group can write to if only root and we are in it, such as Debian's /usr/local (root:staff, 2775)
    :raises HostError: another user could exchange a part; the error names it
    """
    trusted = {0, os.geteuid()}
    if not os.path.isabs(path):
        raise HostError("must be an absolute path", option=option, wanted=path)
    pending = [part for part in path.split("/") if part]
    if not itself:
        pending = pending[:-1]
    current, links = "/", 0
    while pending:
        part = pending.pop(0)
        if part == ".":
            continue
        if part == "..":
            current = os.path.dirname(current)
            continue
        here = os.path.join(current, part)
        try:
            found = os.lstat(here)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise HostError(f"{here} cannot be checked", option=option, wanted=path, answer=str(error)) from error
        problem = ""
        if found.st_uid not in trusted:
            problem = f"belongs to user {found.st_uid}"
        elif stat.S_ISLNK(found.st_mode):
            links += 1
            if links > 40:
                raise HostError("the path must not have so many symbolic links", option=option, wanted=path)
            target = os.readlink(here)
            pending = [piece for piece in target.split("/") if piece] + pending
            if target.startswith("/"):
                current = "/"
            continue
        elif (
            found.st_mode & 0o022
            and not (found.st_mode & stat.S_ISVTX and (pending or not itself))
            and not (shared_groups and _is_only_roots(found))
        ):
            problem = f"has mode {stat.S_IMODE(found.st_mode):04o}, so others can write to it"
        if problem:
            raise HostError(
                f"{here} {problem}; it must belong to root or to the user of the task, and no other user may write to it",
                option=option,
                wanted=path,
                fix=fix or f"Correct it (chown root: {here}; chmod go-w {here}), or choose another path.",
            )
        current = here


def _is_only_roots(found: os.stat_result) -> bool:
    """Whether only root and we are in the file's group: it is root's group, or it has no other members."""
    if found.st_mode & 0o002:
        return False
    if found.st_gid == 0:
        return True
    # The host's users are read only if there is such a group.
    import grp
    import pwd

    try:
        members = set(grp.getgrgid(found.st_gid).gr_mem)
    except KeyError:
        members = set()
    members |= {user.pw_name for user in pwd.getpwall() if user.pw_gid == found.st_gid}
    return all(_uid_of(name) in (0, os.geteuid()) for name in members)


def _uid_of(name: str) -> int:
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return -1
