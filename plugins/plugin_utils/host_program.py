# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program of this collection on a host, from the compiled copy that the host keeps, through a connection of Ansible's.

A program is a module of `module_utils` with a function `main(request, stdin, nonce)`. It runs outside of Ansible's modules, so its standard input
and output may be of any size and are never parsed.
"""

from __future__ import annotations

import base64
import json
import secrets
import shlex
from typing import Any, NamedTuple

from ansible_collections.kata.hypervisor.plugins.module_utils.delivery.engine_copy import ROOT
from ansible_collections.kata.hypervisor.plugins.plugin_utils.engine import engine_archive, engine_digest

#: Where a user other than root keeps the copy, below the home directory.
USER_ROOT = ".cache/kata-hypervisor/engine"

#: The longest request that is a word of the command, bytes: all words together must fit into one of the host's shell (execve(2), MAX_ARG_STRLEN).
MOST_WORD = 32 * 1024
#: What Python runs on the host. `-I` keeps the current directory out of the imports, `-B` keeps the copy as it was installed, and `-S`
#: leaves out the site's packages, which no program imports.
#: Arguments: digest, program, nonce, request (or "-": the first line of the standard input is the request).
START = f"""
import base64, json, os, stat, sys
digest, program, nonce, request = sys.argv[1:5]
root = {ROOT!r} if os.geteuid() == 0 else os.path.join(os.path.expanduser("~"), {USER_ROOT!r})
copy = os.path.join(root, digest)
try:
    found = os.lstat(copy)
    there = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
except OSError:
    there = False
if not there:
    print("\\n" + nonce + ' {{"copy": false}}')
    sys.exit()
sys.path.insert(0, copy)
import importlib
main = importlib.import_module("module_utils." + program).main
main(json.loads(sys.stdin.buffer.readline() if request == "-" else base64.b64decode(request)), sys.stdin.buffer, nonce)
"""

#: Installs the copy. The archive is the standard input, or the file that the second argument names.
INSTALL = f"""
import os, sys, tempfile
digest, archive = sys.argv[1:3]
root = {ROOT!r} if os.geteuid() == 0 else os.path.join(os.path.expanduser("~"), {USER_ROOT!r})
with tempfile.TemporaryDirectory() as work:
    path = os.path.join(work, "engine.zip")
    with open(path, "wb") as target:
        with sys.stdin.buffer if archive == "-" else open(archive, "rb") as source:
            target.write(source.read())
    sys.path.insert(0, path)
    from module_utils.delivery.engine_copy import EngineCopy
    from module_utils.delivery.engine_installation import install
    install(EngineCopy(digest, root), path)
"""


class HostProgramError(Exception):
    """A program could not be run on the host. The text says why, for people."""


class Ended(NamedTuple):
    """How a program ended.

    :param ending: what its last line says
    :param stdout: its output before that line
    :param stderr: its standard error
    """

    ending: dict[str, Any]
    stdout: bytes
    stderr: bytes


class HostPrograms:
    """Runs programs on one host.

    :param host: the host's connection (see `host_connection.py`)
    :param python: the host's Python
    """

    def __init__(self, host: Any, python: str) -> None:
        self._host = host
        self._python = python

    def run(self, program: str, request: dict[str, Any], stdin: bytes = b"") -> Ended:
        """Run a program, after installing the collection's copy where the host has none.

        :param program: a module below module_utils, with dots
        :raises HostProgramError: it did not run
        """
        done = self._attempt(program, request, stdin)
        if "copy" in done.ending:
            self._install()
            done = self._attempt(program, request, stdin)
        if "copy" in done.ending:
            raise HostProgramError("the copy of the collection on the host cannot be used; see docs/engine-copy.md")
        return done

    def _words(self, program: str, request: dict[str, Any], nonce: str) -> list[str]:
        """The words of the command that runs a program whose standard input is not the request."""
        asked = base64.b64encode(json.dumps(request).encode()).decode()
        return self._python_words(START, engine_digest(), program, nonce, asked)

    def _attempt(self, program: str, request: dict[str, Any], stdin: bytes) -> Ended:
        nonce = secrets.token_hex(16)
        line = json.dumps(request).encode() + b"\n"
        if stdin or self._host.takes_input or len(line) > MOST_WORD:
            words = self._python_words(START, engine_digest(), program, nonce, "-")
            code, stdout, stderr = self._host.run(words, line + stdin)
        else:
            code, stdout, stderr = self._host.run(self._words(program, request, nonce), b"")
        before, found, last = stdout.rpartition(f"\n{nonce} ".encode())
        if not found:
            printed = (stderr + stdout)[-2000:].decode("utf-8", "replace").strip()
            raise HostProgramError(
                f"the program on the host ended with code {code} and printed: {printed or 'nothing'}"
            )
        # A shell of the host may print something when it ends.
        line_of_ending = last.partition(b"\n")[0]
        try:
            ending: dict[str, Any] = json.loads(line_of_ending)
        except ValueError as error:
            shown = line_of_ending[-2000:].decode("utf-8", "replace")
            raise HostProgramError(f"the program on the host ended with a line that is not JSON: {shown}") from error
        return Ended(ending, before, stderr)

    def _install(self) -> None:
        with open(engine_archive(), "rb") as archive:
            code, stdout, stderr = self._host.run(self._python_words(INSTALL, engine_digest(), "-"), archive.read())
        if code:
            printed = (stderr + stdout)[-2000:].decode("utf-8", "replace").strip()
            raise HostProgramError(f"the collection cannot be copied to the host: {printed}")

    def _python_words(self, source: str, *arguments: str) -> list[str]:
        return [*shlex.split(self._python), "-IBS", "-c", source, *arguments]
