# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shell commands that read and write files of a guest. They need no Python there, and each prints a digest of the bytes that it saw."""

from __future__ import annotations

import hashlib
import re
import shlex
from typing import NamedTuple

#: The block that offsets are counted in, bytes.
BLOCK = 65536

#: What finds damage on the way. It is the fastest digest that every guest has; whoever controls a guest needs no collision to lie.
CHECKSUM = "sha1sum"


def new_part_command(part: str) -> str:
    """Create an empty file that nothing else has the name of."""
    return f"umask 077; set -C; : >{shlex.quote(part)}"


def append_command(part: str) -> str:
    """Append the standard input to a file. Prints the digest of the standard input; prints an error if something could not be written."""
    quoted = shlex.quote(part)
    return f'{{ tee -a {quoted} || echo {quoted}" cannot be written" >&2; }} | {CHECKSUM}'


def move_command(part: str, path: str, size: int) -> str:
    """Move a complete file to its place.

    :param size: the bytes that it must have
    """
    part, path = shlex.quote(part), shlex.quote(path)
    return (
        f'[ "$(($(wc -c <{part})))" -eq {size} ] || {{ echo {part}" must have {size} bytes" >&2; exit 1; }}; '
        f'[ ! -d {path} ] || {{ echo {path}" must not be a directory" >&2; exit 1; }}; mv -f {part} {path}'
    )


def remove_command(part: str) -> str:
    """Remove a file that was not completed."""
    return f"rm -f {shlex.quote(part)}"


def read_command(path: str, first: int, count: int) -> str:
    """Print blocks of a file, and their digest on the standard error.

    :param first: the number of the first block (see `BLOCK`)
    :param count: how many; fewer are printed at the end of the file
    """
    quoted = shlex.quote(path)
    return (
        f'[ -f {quoted} ] && [ -r {quoted} ] || {{ echo {quoted}" must be a file that can be read" >&2; exit 1; }}; '
        f"{{ {{ dd if={quoted} bs={BLOCK} skip={first} count={count} iflag=fullblock 2>/dev/null"
        f' || echo {quoted}" cannot be read" >&2; }} | tee /proc/self/fd/9 | {CHECKSUM} >&2; }} 9>&1'
    )


def has_checksum(printed: bytes, data: bytes) -> bool:
    """Whether what the guest printed is the checksum of these bytes."""
    return checksum_in(printed) == hashlib.sha1(data, usedforsecurity=False).hexdigest()


def checksum_in(printed: bytes) -> str:
    """The checksum in what the guest printed."""
    return printed.partition(b" ")[0].decode("ascii", "replace")


class FileStatus(NamedTuple):
    """A path of a guest, as the guest describes it.

    :param kind: file, directory, other or absent
    :param mode: permissions, such as `0644`
    :param owners: the names that the owner goes by: its name and its number
    :param groups: the same of its group
    :param size: bytes
    :param digest: the SHA-256 of a file's content
    """

    kind: str
    mode: str = ""
    owners: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    size: int = 0
    digest: str = ""


STATUS = re.compile(
    r"file\n([0-7]{1,4}) (\S{1,64}) ([0-9]{1,10}) (\S{1,64}) ([0-9]{1,10}) ([0-9]{1,19})\n([0-9a-f]{64})\b[^\n]*\n"
)
OTHER_STATUS = re.compile(r"(directory|other|absent)\n")


def status_command(path: str) -> str:
    """Describe a path; see `parse_status`."""
    quoted = shlex.quote(path)
    return (
        f"if [ -d {quoted} ]; then echo directory; "
        f"elif [ -f {quoted} ]; then echo file; stat -L -c '%a %U %u %G %g %s' {quoted} && sha256sum <{quoted}; "
        f"elif [ -e {quoted} ] || [ -L {quoted} ]; then echo other; else echo absent; fi"
    )


def parse_status(printed: bytes) -> FileStatus | None:
    """What `status_command` printed; None if it is something else."""
    text = printed[:1024].decode("utf-8", "replace")
    other = OTHER_STATUS.fullmatch(text)
    if other:
        return FileStatus(other[1])
    found = STATUS.fullmatch(text)
    if not found:
        return None
    mode, owner, uid, group, gid, size, digest = found.groups()
    return FileStatus("file", mode.rjust(4, "0"), (owner, uid), (group, gid), int(size), digest)


def digest_of_file(path: str, algorithm: str = "sha256") -> str:
    """The digest of a file of the host, to compare with `FileStatus.digest`, or with a checksum (`sha1`)."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as source:
        while data := source.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def attributes_command(path: str, mode: str = "", owner: str = "", group: str = "") -> str:
    """Set permissions and owner of a file. The owner comes first, since a change of it clears bits of the mode."""
    quoted, commands = shlex.quote(path), []
    if owner or group:
        commands.append(f"chown {shlex.quote(owner + (':' + group if group else ''))} {quoted}")
    if mode:
        commands.append(f"chmod {mode} {quoted}")
    return " && ".join(commands) or ":"


def directory_exists_command(path: str) -> str:
    """Succeed if there is a directory to put a file into."""
    return f"[ -d {shlex.quote(path)} ]"
