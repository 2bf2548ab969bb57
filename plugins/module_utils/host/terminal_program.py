# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's end of a terminal that is attached to a sandbox: its console, or its logs while they grow.

The playbooks `console` and `logs` run this file as a program on the host, through the host's connection, with its text as an argument of Python. So it
imports nothing of this collection.

    attach MARKER CONSOLE PID         join standard input and output with a console, a unix socket or a terminal device, of the VMM with this pid
    follow MARKER LINES NAME=LOG...   the last lines of logs and what is added, as "NAME SIZE\\n" and SIZE bytes for each piece

The marker is printed first. What was printed before it came from the programs that lead here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import sys
import termios
import tty

BLOCK = 65536
#: How often growing logs are looked at, seconds.
INTERVAL = 0.25
#: The most bytes of a log that the last lines are searched in.
MOST_TAIL = 1 << 20


def main(arguments: list[str]) -> int:
    """The program. Its exit code is 0 at the end of the input or of the console, and 3 if there is nothing to attach to."""
    operation, marker, *rest = arguments
    try:
        saved = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSANOW)
    except termios.error:
        saved = None  # Not a terminal.
    try:
        if operation == "attach":
            return attach(marker, rest[0], int(rest[1]))
        return follow(marker, int(rest[0]), [word.partition("=")[::2] for word in rest[1:]])
    except OSError as problem:
        sys.stderr.write(f"{problem}\n")
        return 3
    finally:
        if saved is not None:
            termios.tcsetattr(0, termios.TCSANOW, saved)


def attach(marker: str, path: str, pid: int) -> int:
    """Join standard input and output with a console.

    :raises OSError: it cannot be opened, or another terminal is attached
    """
    console = connected(path, pid)
    write(1, marker.encode())
    while True:
        ready = select.select([0, console], [], [])[0]
        if console in ready:
            data = read(console)
            if not data:
                return 0
            write(1, data)
        if 0 in ready:
            data = read(0)
            if not data:
                return 0
            write(console, data)


def connected(path: str, pid: int) -> int:
    """A descriptor of a console. No link is followed, since the VMM's user can write to the directory.

    :raises OSError: it cannot be opened, or another terminal is attached
    """
    found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    mode = os.fstat(found).st_mode
    if stat.S_ISCHR(mode):
        descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        tty.setraw(descriptor, termios.TCSANOW)
        return descriptor
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.ENOTSOCK, "it is neither a socket nor a terminal", path)
    if is_used(os.path.basename(path), pid):
        raise OSError(errno.EBUSY, "another terminal or program is attached to it", path)
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(f"/proc/self/fd/{found}")
    os.close(found)
    return stream.detach()


def is_used(name: str, pid: int) -> bool:
    """Whether a program is connected to a unix socket of a VMM. QEMU serves one, and would leave another waiting without an answer.

    :param name: the last part of its path; what is before it depends on how the VMM was started
    """
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as stream:
            lines = [line.split(maxsplit=7) for line in stream]
        own = set()
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                own.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    except OSError:
        return False
    # The sixth field is the state (03 is connected), the seventh the inode.
    return any(
        len(line) == 8
        and line[5] == "03"
        and f"socket:[{line[6]}]" in own
        and os.path.basename(line[7].rstrip("\n")) == name
        for line in lines
    )


def follow(marker: str, lines: int, logs: list[tuple[str, str]]) -> int:
    """Print the last lines of logs, and what is added to them, until the input ends. A log can be replaced, cut, or appear later."""
    write(1, marker.encode())
    known: dict[str, tuple[int, int]] = {}
    while True:
        for name, path in logs:
            data, known[name] = news(path, known.get(name), lines)
            while data:
                piece, data = data[:BLOCK], data[BLOCK:]
                write(1, f"{name} {len(piece)}\n".encode() + piece)
        if select.select([0], [], [], INTERVAL)[0] and not read(0):
            return 0


def news(path: str, known: tuple[int, int] | None, lines: int) -> tuple[bytes, tuple[int, int]]:
    """What a log has beyond a known inode and size; its last lines if none are known. A file that is not a plain one is empty."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b"", known or (0, 0)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            return b"", known or (0, 0)
        if known is None:
            start = max(0, found.st_size - MOST_TAIL)
            data = os.pread(descriptor, found.st_size - start, start)
            end = start + len(data)
            data = b"".join(data.splitlines(True)[-lines:]) if lines else b""
        else:
            inode, start = known
            if inode != found.st_ino or start > found.st_size:
                start = 0
            data = os.pread(descriptor, min(found.st_size - start, MOST_TAIL), start)
            end = start + len(data)
        return data, (found.st_ino, end)
    finally:
        os.close(descriptor)


def read(descriptor: int) -> bytes:
    """What can be read now; empty at the end."""
    try:
        return os.read(descriptor, BLOCK)
    except OSError as problem:
        if problem.errno in (errno.EIO, errno.ECONNRESET):
            return b""  # The terminal or the VMM is gone.
        raise


def write(descriptor: int, data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
