# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy one file from the host into the guest of a sandbox, or from there to the host."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import posixpath
import re
import secrets
import stat
from collections.abc import Sequence
from typing import Any, BinaryIO

from ..errors import ConfigError, HostError, HypervisorError, VmmError, printable
from ..guest.channel import Channel
from ..guest.files import (
    BLOCK,
    FileStatus,
    append_command,
    attributes_command,
    checksum_in,
    digest_of_file,
    directory_exists_command,
    move_command,
    new_part_command,
    parse_status,
    read_command,
    remove_command,
    status_command,
)
from ..host.atomic_files import put_in_place

#: Where the id of a sandbox stands in a path of the host.
ID = "{id}"
#: The largest content that a diff shows, bytes.
MOST_DIFF = 100 * 1024
DEFAULT_MODE = "0644"
#: Permissions of a new file of the host.
HOST_MODE = 0o600
MODE = re.compile(r"0?[0-7]{3,4}")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


class CopyError(VmmError):
    """A file of a guest could not be read or written."""


@dataclasses.dataclass
class FileCopy:
    """A copy, as a task requests it.

    :param src: path on the host, or in the guest for `from_guest`
    :param dest: path in the guest, or on the host for `from_guest`. On the host it may contain `{id}`
    :param mode: permissions of the new file, octal; empty for those that it has
    :param owner: its owner; empty for the one that it has
    :param group: its group; empty for the one that it has
    :param force: whether a file that is there is replaced
    :param diff: whether the result has the contents
    :param is_content: `src` holds a text of the task, and its name means nothing
    """

    src: str
    dest: str
    from_guest: bool = False
    mode: str = ""
    owner: str = ""
    group: str = ""
    force: bool = True
    diff: bool = False
    is_content: bool = False

    def __post_init__(self) -> None:
        for option, path in (("src", self.src), ("dest", self.dest)):
            if not path.startswith("/") or "\0" in path:
                raise ConfigError("must be an absolute path", option=option, wanted=path)
        if self.mode and not MODE.fullmatch(self.mode):
            raise ConfigError("must be octal permissions, such as '0644'", option="mode", wanted=self.mode)
        for option, name in (("owner", self.owner), ("group", self.group)):
            if name and not NAME.fullmatch(name):
                raise ConfigError("must be the name or the number of a user or group", option=option, wanted=name)
        if self.from_guest and (self.owner or self.group):
            raise ConfigError("owner and group are for files of the guest", option="owner", wanted=self.owner)

    def on_host(self, identity: str) -> str:
        """The path on the host for one sandbox."""
        path = self.dest if self.from_guest else self.src
        return path if self.is_content else path.replace(ID, identity)

    def check_places(self, ids: Sequence[str]) -> None:
        """Fail if the files of several guests would replace each other.

        :raises ConfigError: they would
        """
        if self.from_guest and len(ids) > 1 and ID not in self.dest:
            raise ConfigError(
                f"must contain {ID}, so that the files of {len(ids)} sandboxes do not replace each other",
                option="dest",
                wanted=self.dest,
            )


def copy_file(wanted: FileCopy, identity: str, channel: Channel, check_mode: bool) -> dict[str, Any]:
    """Carry out a copy for one sandbox. Returns the fields of a result.

    :raises CopyError: the guest's side failed
    :raises HostError: the host's side failed
    """
    work = _to_host if wanted.from_guest else _to_guest
    try:
        return work(wanted, wanted.on_host(identity), channel, check_mode)
    except OSError as error:
        raise HostError(
            "the file on the host cannot be read or written", wanted=wanted.on_host(identity), answer=str(error)
        ) from error


# --- into the guest -----------------------------------------------------------------------------------------------------


def _to_guest(wanted: FileCopy, source: str, channel: Channel, check_mode: bool) -> dict[str, Any]:
    if not os.path.isfile(source):
        # Reading a FIFO would wait for ever.
        raise HostError("the source on the host must be a regular file", option="src", wanted=source)
    dest, before = _destination(wanted, source, channel)
    if before.kind == "file":
        same = not wanted.force or digest_of_file(source) == before.digest
    else:
        same = False
        parent = posixpath.dirname(dest.rstrip("/"))
        if _run(channel, directory_exists_command(parent))[0]:
            raise CopyError("the directory must exist in the guest", option="dest", wanted=parent)
    mode = (wanted.mode or before.mode or DEFAULT_MODE).rjust(4, "0")[-4:]
    attributes = {
        "mode": mode if before.mode != mode else "",
        "owner": wanted.owner if wanted.owner not in before.owners else "",
        "group": wanted.group if wanted.group not in before.groups else "",
    }
    result: dict[str, Any] = {
        "changed": not same or any(attributes.values()),
        "destination": dest,
        "size": os.stat(source).st_size,
    }
    if wanted.diff and result["changed"]:
        result["diff"] = _diff(before, dest, None if same else source, channel, {**vars(wanted), "mode": mode})
    if check_mode or not result["changed"]:
        return result
    if same:
        _must(channel, attributes_command(dest, **attributes))
        return result
    # Unless the task sets an owner, the new file has the one that the old one had.
    owner = wanted.owner or (before.owners[1] if before.owners else "")
    group = wanted.group or (before.groups[1] if before.groups else "")
    _write(dest, source, {"mode": mode, "owner": owner, "group": group}, channel)
    return result


def _destination(wanted: FileCopy, source: str, channel: Channel) -> tuple[str, FileStatus]:
    """The path in the guest, and what is there."""
    status = _status(channel, wanted.dest)
    if status.kind == "directory" and wanted.is_content:
        raise CopyError(
            "the path in the guest must be that of a file, since content has no name",
            option="dest",
            wanted=wanted.dest,
            answer="it is a directory",
        )
    if status.kind == "directory":
        dest = posixpath.join(wanted.dest, posixpath.basename(source))
        status = _status(channel, dest)
    elif wanted.dest.endswith("/"):
        raise CopyError("the directory must exist in the guest", option="dest", wanted=wanted.dest)
    else:
        dest = wanted.dest
    if status.kind not in ("file", "absent"):
        raise CopyError(
            "the path in the guest must be a file or not exist",
            option="dest",
            wanted=dest,
            answer=f"it is {status.kind}",
        )
    return dest, status


def _write(dest: str, source: str, attributes: dict[str, str], channel: Channel) -> None:
    """Write a new file beside its place, and move it there when it is complete."""
    part = f"{dest}.{secrets.token_hex(8)}"
    with open(source, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            _must(channel, new_part_command(part))
            printed = _must(channel, append_command(part), stream, size)
            if checksum_in(printed) != digest_of_file(source, "sha1"):
                raise CopyError(
                    "what arrived in the guest must be what the host sent; the file changed meanwhile",
                    option="src",
                    wanted=source,
                )
            _must(channel, attributes_command(part, **attributes))
            _must(channel, move_command(part, dest, size))
        except BaseException:
            with contextlib.suppress(HypervisorError):
                _run(channel, remove_command(part))
            raise


# --- from the guest -----------------------------------------------------------------------------------------------------


def _to_host(wanted: FileCopy, dest: str, channel: Channel, check_mode: bool) -> dict[str, Any]:
    status = _status(channel, wanted.src)
    if status.kind != "file":
        raise CopyError(
            "the path in the guest must be a file", option="src", wanted=wanted.src, answer=f"it is {status.kind}"
        )
    if dest.endswith("/") or os.path.isdir(dest):
        dest = os.path.join(dest, posixpath.basename(wanted.src))
    if not os.path.isdir(os.path.dirname(dest)):
        raise HostError("the directory must exist on the host", option="dest", wanted=os.path.dirname(dest))
    before = stat.S_IMODE(os.stat(dest).st_mode) if os.path.isfile(dest) else None
    same = before is not None and (not wanted.force or digest_of_file(dest) == status.digest)
    mode = int(wanted.mode, 8) if wanted.mode else before if before is not None else HOST_MODE
    result = {"changed": not same or mode != before, "destination": dest, "size": status.size}
    if check_mode or not result["changed"]:
        return result
    if same:
        os.chmod(dest, mode)
        return result
    free = os.statvfs(os.path.dirname(dest))
    if status.size > free.f_bavail * free.f_frsize:
        raise HostError(
            f"the file system of {dest} must have {status.size} free bytes",
            option="dest",
            answer=f"it has {free.f_bavail * free.f_frsize}",
        )
    draft = f"{dest}.{secrets.token_hex(8)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as target:
            os.fchmod(target.fileno(), mode)
            blocks = -(-status.size // BLOCK)
            _must(channel, read_command(wanted.src, 0, max(1, blocks)), sink=target, most=blocks * BLOCK)
        if digest_of_file(draft) != status.digest:
            raise CopyError("the file must not change while it is copied", option="src", wanted=wanted.src)
        put_in_place(draft, dest)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    return result


# --- common -------------------------------------------------------------------------------------------------------------


def _status(channel: Channel, path: str) -> FileStatus:
    status = parse_status(_must(channel, status_command(path)))
    if status is None:
        raise CopyError("the guest must describe a path as it was asked to", wanted=path)
    return status


def _diff(before: FileStatus, dest: str, source: str | None, channel: Channel, after: dict[str, Any]) -> dict[str, str]:
    """The two sides of a diff: contents where both are short texts, and the attributes that change."""
    old = _must(channel, read_command(dest, 0, -(-MOST_DIFF // BLOCK))) if 0 < before.size <= MOST_DIFF else b""
    new = old
    if source is not None:
        with open(source, "rb") as stream:
            new = stream.read(MOST_DIFF + 1)
    if before.size > MOST_DIFF or len(new) > MOST_DIFF or b"\0" in old + new:
        old, new = f"{before.digest}\n".encode(), b"(larger than a diff, or no text)\n"
    heads = {"before": _head(before.mode, before.owners, before.groups), "after": ""}
    heads["after"] = _head(after["mode"], (after["owner"], *before.owners), (after["group"], *before.groups))
    return {
        "before": heads["before"] + old.decode("utf-8", "replace"),
        "after": heads["after"] + new.decode("utf-8", "replace"),
    }


def _head(mode: str, owners: tuple[str, ...], groups: tuple[str, ...]) -> str:
    if not mode:
        return ""
    owner, group = (next((name for name in names if name not in ("", "UNKNOWN")), "root") for names in (owners, groups))
    return f"mode {mode} owner {owner} group {group}\n"


def _run(
    channel: Channel,
    command: str,
    stdin: BinaryIO | None = None,
    size: int = 0,
    sink: BinaryIO | None = None,
    most: int = 2 * MOST_DIFF,
) -> tuple[int, bytes, bytes]:
    """The exit code and both outputs of a command.

    :param sink: receives the standard output instead
    :param most: bytes of standard output that the guest may send
    """
    output, errors, left = io.BytesIO(), bytearray(), most

    def keep(data: bytes) -> None:
        errors.extend(data[: max(0, MOST_DIFF - len(errors))])

    def write(data: bytes) -> None:
        nonlocal left
        left -= len(data)
        if left < 0:
            raise CopyError(f"the guest must send at most {most} bytes", wanted=command)
        (sink or output).write(data)

    code = channel.run(command.encode("utf-8", "surrogateescape"), stdin, size, write, keep)
    return code, output.getvalue(), bytes(errors)


def _must(
    channel: Channel,
    command: str,
    stdin: BinaryIO | None = None,
    size: int = 0,
    sink: BinaryIO | None = None,
    most: int = 2 * MOST_DIFF,
) -> bytes:
    """The output of a command that must succeed."""
    code, output, errors = _run(channel, command, stdin, size, sink, most)
    if code or (stdin is not None and errors):
        printed = printable(errors.decode("utf-8", "replace")).strip()
        raise CopyError("a file of the guest could not be read or written", answer=printed or f"code {code}")
    return output
