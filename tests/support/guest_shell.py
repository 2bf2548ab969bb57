# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shell in a guest, over its serial console: what the guest itself sees."""

from __future__ import annotations

import os
import re
import select
import socket
import time

from tests.support.waiting import PATIENCE


class GuestShell:
    """The root shell that our initrd starts on a console (kernel parameter `kata.shell=ttyS0`).

    :param path: the console's unix socket, or a device's pty
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))
        self._count = 0
        # The terminal would send back what it is told.
        self.run("stty -echo")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def run(self, command: str, timeout: float = PATIENCE) -> str:
        """What a command printed, both streams; a failing one raises with its exit code."""
        code, output = self.attempt(command, timeout)
        if code:
            raise AssertionError(f"in the guest: {command!r} ended with {code}: {output}")
        return output

    def attempt(self, command: str, timeout: float = PATIENCE) -> tuple[int, str]:
        """Exit code and output of a command."""
        self._count += 1
        token = f"done{self._count}"
        # The token is split in what is typed, so that an echo of the command is not taken for its end.
        self._socket.sendall(
            f"echo '<'begin{self._count}'>'; {{ {command}; }} 2>&1; ended=$?; echo; echo '<'{token}'>' $ended\n".encode()
        )
        pattern = re.compile(rf"<begin{self._count}>\r?\n(.*?)\r?\n<{token}> (\d+)\r?\n".encode(), re.DOTALL)
        buffer = b""
        deadline = time.monotonic() + timeout
        while True:
            found = pattern.search(buffer)
            if found:
                lines = found[1].decode("utf-8", "replace").replace("\r", "").splitlines()
                return int(found[2]), "\n".join(line for line in lines if not line.startswith("kata-guest:")).strip()
            if not select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"the guest did not answer {command!r} within {timeout:g} s: {buffer[-300:]!r}")
            data = self._socket.recv(65536)
            if not data:
                raise AssertionError(f"the console closed during {command!r}: {buffer[-300:]!r}")
            buffer += data

    def eventually(self, command: str, wanted: str, timeout: float = PATIENCE) -> str:
        """Repeat a command until its output matches; what it printed then."""
        deadline = time.monotonic() + timeout
        while True:
            _code, output = self.attempt(command)
            if re.search(wanted, output):
                return output
            if time.monotonic() > deadline:
                raise AssertionError(f"in the guest, {command!r} never gave {wanted!r}, but {output!r}")
            time.sleep(0.1)
