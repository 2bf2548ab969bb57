# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user at a real pseudo terminal, who runs one of Ansible's programs in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import pty
import select
import signal
import struct
import sys
import termios
import time
from typing import Any, Iterator

from tests.support.checkout import ROOT
from tests.support.waiting import PATIENCE


class UserTerminal:
    """A terminal with a program in it.

    :param words: a program of Ansible, and its arguments
    """

    def __init__(self, *words: str) -> None:
        self.printed = b""
        self._searched = 0
        # The other end stays open, so that the terminal and its settings outlive the program.
        self.descriptor, self.other = pty.openpty()
        self.set_size(24, 80)
        self.settings: list[Any] = termios.tcgetattr(self.other)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.login_tty(self.other)
                os.chdir(ROOT)
                program = pathlib.Path(sys.executable).with_name(words[0])
                os.execve(program, words, {**os.environ, "ANSIBLE_NOCOLOR": "1", "TERM": "dumb"})
            finally:
                os._exit(127)

    def set_size(self, rows: int, columns: int) -> None:
        """Change the size of the terminal's window."""
        fcntl.ioctl(self.other, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def is_raw(self) -> bool:
        """Whether no line discipline is between the keys and the program."""
        return not termios.tcgetattr(self.other)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def is_as_before(self) -> bool:
        """Whether the terminal has the settings that it had before the program."""
        return bool(termios.tcgetattr(self.other) == self.settings)

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self.descriptor, text.encode())

    def wait_for(self, text: str) -> str:
        """Wait until the program has printed a text after the last one that was waited for. Returns what it printed since."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self.printed.find(text.encode(), self._searched)
            if found >= 0:
                begun, self._searched = self._searched, found + len(text)
                return self.printed[begun : self._searched].decode("utf-8", "replace")
            ready = select.select([self.descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"no {text!r} was printed: {self.printed[-2000:]!r}"
            self.printed += os.read(self.descriptor, 65536)

    def end(self) -> int:
        """Wait until the program ends. Returns its exit code."""
        deadline = time.monotonic() + PATIENCE
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, f"the program did not end: {self.printed[-2000:]!r}"
            if select.select([self.descriptor], [], [], 0.05)[0]:
                self.printed += os.read(self.descriptor, 65536)

    def close(self) -> None:
        """End the program and close the terminal."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.other)
        os.close(self.descriptor)


@contextlib.contextmanager
def user_terminal(*words: str) -> Iterator[UserTerminal]:
    """A terminal with a program in it, closed afterwards."""
    terminal = UserTerminal(*words)
    try:
        yield terminal
    finally:
        terminal.close()
