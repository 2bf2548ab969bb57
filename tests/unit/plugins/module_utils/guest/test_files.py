# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that read files of a guest, run in the shells of this machine on files that are read in small parts, or not at all."""

from __future__ import annotations

import os
import subprocess

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.guest.files import BLOCK, has_checksum, read_command

SHELLS = [["/bin/dash"], ["/bin/bash"], ["/bin/busybox", "sh"]]


@pytest.fixture(params=[shell for shell in SHELLS if os.path.exists(shell[0])], ids=lambda shell: shell[0][5:])
def shell(request: pytest.FixtureRequest) -> list[str]:
    words: list[str] = request.param
    return words


def test_a_file_that_is_read_in_small_parts_is_complete(shell: list[str]) -> None:
    path = "/proc/kallsyms"
    if not os.path.exists(path):
        pytest.skip("this kernel has no symbols, whose file returns less than it is asked for")
    done = subprocess.run([*shell, "-c", read_command(path, 1, 2)], capture_output=True, check=True)
    with open(path, "rb") as stream:
        whole = stream.read(3 * BLOCK)
    assert done.stdout == whole[BLOCK:]
    assert has_checksum(done.stderr, done.stdout)


def test_a_file_that_cannot_be_read_has_no_checksum(shell: list[str]) -> None:
    # It can be opened, and reading its first bytes is an error.
    done = subprocess.run([*shell, "-c", read_command("/proc/self/mem", 0, 1)], capture_output=True, check=True)
    assert done.stdout == b""
    assert not has_checksum(done.stderr, b"")
    assert done.stderr.startswith(b"/proc/self/mem cannot be read\n")
