# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's programs: found, asked for their version, run to their end.

What outlives a task, as a VMM does, is started by C(process.py).
"""

from __future__ import annotations

import errno
import os
import subprocess
from typing import IO, Mapping, NamedTuple, Sequence

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, HostError

#: Seconds a program gets to say its version.
VERSION_SECONDS = 10.0
#: So much of what a failed program said is told, in bytes from its end.
WORDS = 2000


def check_program(path: str, option: str, fix: str = "") -> str:
    """A program that can be run.

    :raises AssetError: it cannot
    """
    if not os.path.isfile(path):
        raise AssetError("there is no such program", option=option, wanted=path, fix=fix)
    if not os.access(path, os.X_OK):
        raise AssetError("this program cannot be executed", option=option, wanted=path, fix=fix)
    return path


def find_program(wanted: str, places: Sequence[str], name: str) -> str:
    """The VMM that was asked for, or the first in the usual places.

    :raises AssetError: there is none, or it cannot be run
    """
    if wanted:
        return check_program(wanted, "hypervisor_path")
    for path in places:
        if os.access(path, os.X_OK):
            return path
    raise AssetError(
        f"no {name} was found in {', '.join(places)}",
        option="hypervisor_path",
        fix="Install it (role kata.hypervisor.kata_vmm) or say where it is.",
    )


def version_text(program: str, question: str = "--version") -> str:
    """What a program answers when it is asked for its version; where it cannot be run, or does not end, the reason."""
    try:
        done = subprocess.run(
            [program, question],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout.decode("utf-8", "replace").strip()


class Ended(NamedTuple):
    """How a program ended.

    :param code: its exit code, negative for the signal that ended it
    :param output: what it wrote to its standard output, where that was not a file
    :param words: what it said of itself: its standard error, or its output where that is empty
    """

    argv: list[str]
    code: int
    output: bytes
    words: str

    @property
    def text(self) -> str:
        """Its output as text."""
        return self.output.decode("utf-8", "replace")

    def checked(self) -> Ended:
        """Itself.

        :raises HostError: it failed, with its own words
        """
        if self.code:
            raise HostError(f"{self.argv[0]} failed with exit code {self.code}", wanted=" ".join(self.argv), answer=self.words)
        return self


def run(
    argv: Sequence[str],
    seconds: float,
    *,
    directory: str = "/",
    data: bytes = b"",
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | int = subprocess.PIPE,
) -> Ended:
    """Run a program to its end, whatever that is.

    :param seconds: its limit of time
    :param data: what it reads from its standard input
    :param environment: all of it; None for ours, in which programs speak English
    :param output: the file that takes its standard output
    :raises HostError: it cannot be run, did not end in time, or found no space on the disk
    """
    try:
        done = subprocess.run(
            argv,
            cwd=directory,
            env=environment or {**os.environ, "LC_ALL": "C.UTF-8"},
            input=data,
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise HostError(f"{argv[0]} could not be run to its end", wanted=" ".join(argv), answer=str(problem)) from problem
    words = (done.stderr or done.stdout or b"")[-WORDS:].decode("utf-8", "replace").strip()
    if done.returncode and os.strerror(errno.ENOSPC) in words:
        raise HostError("the disk is full", wanted=" ".join(argv), answer=words, fix="What was there before is still there. Make room there.")
    return Ended(list(argv), done.returncode, done.stdout or b"", words)
