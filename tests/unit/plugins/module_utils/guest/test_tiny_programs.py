# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of our own: those of this host's architecture run here; what the others do, guests tell in the integration tests."""

from __future__ import annotations

import os
import pathlib
import platform
import struct
import subprocess

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.guest.tiny_programs import (
    ASSEMBLERS,
    RESULT,
    Call,
    program,
)


def run(path: pathlib.Path, calls: list[Call]) -> tuple[int, bytes]:
    """A program's exit code and what it printed."""
    if platform.machine() not in ASSEMBLERS:
        pytest.skip(f"there is no assembler for {platform.machine()}")
    path.write_bytes(program(platform.machine(), calls))
    path.chmod(0o755)
    done = subprocess.run([str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=30, check=False)
    return done.returncode, done.stdout


def test_it_writes_and_ends(tmp_path: pathlib.Path) -> None:
    calls = [Call("write", (1, b"one ", 4)), Call("write", (1, b"two", 3)), Call("exit", (7,))]
    assert run(tmp_path / "program", calls) == (7, b"one two")


def test_it_ends_with_what_the_last_call_returned(tmp_path: pathlib.Path) -> None:
    there = [Call("close", (0,)), Call("openat", (0, b"/dev/null\0", os.O_WRONLY)), Call("exit", (RESULT,))]
    assert run(tmp_path / "there", there)[0] == 0
    missing = [Call("openat", (0, b"/dev/no-such-device\0", os.O_WRONLY)), Call("exit", (RESULT,))]
    assert run(tmp_path / "missing", missing)[0] not in (0, None)


@pytest.mark.parametrize(
    ("architecture", "machine", "order"),
    [("x86_64", 62, "<"), ("aarch64", 183, "<"), ("ppc64le", 21, "<"), ("s390x", 22, ">")],
)
def test_its_header_says_whose_it_is(architecture: str, machine: int, order: str) -> None:
    header = program(architecture, [Call("exit", (0,))])[:20]
    assert header[:6] == b"\x7fELF\x02" + (b"\x01" if order == "<" else b"\x02")
    assert struct.unpack_from(f"{order}HH", header, 16) == (2, machine)
