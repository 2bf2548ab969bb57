# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's terminal in a task: found through the process that runs the playbook, set raw, and restored whatever happens.

A task runs in a worker process without a controlling terminal. Its parent, the process that the user started, has the terminal as standard input.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence

#: Ctrl-], as of telnet and virsh.
DETACH = b"\x1d"
BLOCK = 65536
#: How often the size of the terminal and the parent process are looked at, seconds.
INTERVAL = 0.25
#: The most bytes that programs can print before the marker, such as messages of ssh and questions of sudo.
MOST_BEFORE = 65536
END_SECONDS = 5.0

#: Gets what was printed before the marker, and returns what to answer.
Answer = Callable[[bytes], bytes]
#: Gets what was printed after the marker.
Show = Callable[[bytes], None]
#: Gets the rows and the columns of the user's terminal, again and again.
Look = Callable[[int, int], None]


class TerminalError(Exception):
    """The user has no terminal that can be used, or the program on the host has failed."""


def terminal_of(process: int, descriptor: int = 0) -> str:
    """The path of a process's terminal.

    :raises TerminalError: it has none
    """
    try:
        path = os.readlink(f"/proc/{process}/fd/{descriptor}")
        opened = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as problem:
        raise TerminalError("the playbook must be run by hand in a terminal, on a controller with Linux") from problem
    try:
        if not os.isatty(opened):
            raise TerminalError("the playbook must be run by hand in a terminal, and its standard input is none")
    finally:
        os.close(opened)
    return path


def opened_terminal(path: str) -> int:
    """A descriptor of a terminal, which does not become the controlling one."""
    return os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


@contextlib.contextmanager
def raw(terminal: int) -> Iterator[None]:
    """The block in which a terminal is raw. A process of its own restores it when this one leaves the block or ends in any way."""
    saved = termios.tcgetattr(terminal)
    reader, writer = os.pipe()
    guard = os.fork()
    if guard == 0:
        try:
            os.close(writer)
            os.setsid()
            os.read(reader, 1)
            termios.tcsetattr(terminal, termios.TCSAFLUSH, saved)
        finally:
            os._exit(0)
    os.close(reader)
    try:
        tty.setraw(terminal, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, saved)
        os.close(writer)
        os.waitpid(guard, 0)


class Program:
    """A program with a terminal of its own, which the user's terminal is joined with.

    :param argv: its arguments
    :param marker: what it prints when it is ready
    :param answer: see `Answer`
    :param keep: descriptors that it inherits
    """

    def __init__(self, argv: Sequence[bytes | str], marker: bytes, answer: Answer, keep: Sequence[int] = ()) -> None:
        self.marker = marker
        self.answer = answer
        self.size = b""
        self._parent = os.getppid()
        self.descriptor, other = pty.openpty()
        os.set_inheritable(other, True)
        # Raw already, so that no echo of an answer comes back.
        tty.setraw(other, termios.TCSANOW)

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(other, termios.TIOCSCTTY, 0)

        # pylint: disable-next=subprocess-popen-preexec-fn
        self.process = subprocess.Popen(
            argv, stdin=other, stdout=other, stderr=other, pass_fds=tuple(keep), preexec_fn=take_terminal
        )
        os.close(other)

    def wait_until_ready(self, seconds: float) -> bytes:
        """Wait for the marker. Returns what came after it.

        :raises TerminalError: the program ended, or there was none in time; with what it printed
        """
        deadline = time.monotonic() + seconds
        printed = b""
        while True:
            before, found, after = printed.partition(self.marker)
            if found:
                return after
            ready = select.select([self.descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]
            data = read(self.descriptor) if ready else b""
            if not data or len(printed) > MOST_BEFORE:
                text = before.decode("utf-8", "replace").replace("\r", "").strip()
                raise TerminalError(text or f"the program on the host was not ready within {seconds:g} s")
            printed += data
            answer = self.answer(printed)
            if answer:
                printed = b""
                write(self.descriptor, answer)

    def join(self, terminal: int | None, first: bytes, show: Show, look: Look | None = None) -> bool:
        """Join the program with a terminal until it ends or the user detaches. Returns whether the user detached.

        :param terminal: the user's terminal; None for a program that only prints
        :param first: what the program has printed already
        :param show: prints what the program prints
        :param look: gets the size of the terminal
        """
        if first:
            show(first)
        sources = [self.descriptor] if terminal is None else [self.descriptor, terminal]
        while os.getppid() == self._parent:
            if terminal is not None:
                rows, columns = self.resize(terminal)
                if look is not None:
                    look(rows, columns)
            ready = select.select(sources, [], [], INTERVAL)[0]
            if self.descriptor in ready:
                data = read(self.descriptor)
                if not data:
                    return False
                show(data)
            if terminal is not None and terminal in ready:
                typed = read(terminal)
                before, detached, _after = typed.partition(DETACH)
                if before:
                    write(self.descriptor, before)
                if detached or not typed:
                    return True
        return True

    def resize(self, terminal: int) -> tuple[int, int]:
        """Give the program's terminal the size of the user's. Returns its rows and columns."""
        size = fcntl.ioctl(terminal, termios.TIOCGWINSZ, b"\0" * struct.calcsize("HHHH"))
        if size != self.size:
            self.size = size
            fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, size)
        rows, columns = struct.unpack("HHHH", size)[:2]
        return int(rows), int(columns)

    def close(self) -> None:
        """End the program. The end of its terminal ends it, and what it has started on the host."""
        os.close(self.descriptor)
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def read(descriptor: int) -> bytes:
    """What can be read now; empty at the end, which is an error of a terminal whose other end is closed."""
    try:
        return os.read(descriptor, BLOCK)
    except OSError:
        return b""


def write(descriptor: int, data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(descriptor, data) :]
