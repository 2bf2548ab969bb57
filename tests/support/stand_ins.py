# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VMMs that tests run: the stand-ins of `tests/doubles`, or real ones that the environment names; and what tests need of them and of the host."""

from __future__ import annotations

import atexit
import os
import pathlib
import shutil
import tempfile

import pytest

from tests.support.checkout import ROOT


def _executables() -> pathlib.Path:
    """The stand-ins as programs: in a directory of this session, each under its real name."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="kata-doubles-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    for source in (ROOT / "tests/doubles").glob("*.py"):
        program = directory / source.stem.replace("_", "-")
        program.write_text("#!/usr/bin/env python3\n" + source.read_text())
        program.chmod(0o755)
    directory.chmod(0o755)
    return directory


DOUBLES = _executables()
#: Real programs, where the environment names them.
REAL_FIRECRACKER = os.environ.get("KATA_TEST_FIRECRACKER", "")
REAL_JAILER = os.environ.get("KATA_TEST_JAILER", "")
FIRECRACKER = REAL_FIRECRACKER or str(DOUBLES / "firecracker")
JAILER = REAL_JAILER or str(DOUBLES / "jailer")
IS_ROOT = os.geteuid() == 0

double_only = pytest.mark.skipif(
    bool(REAL_FIRECRACKER), reason="only the stand-in fails on request and can be another version"
)
#: Set where guests boot under a real Firecracker too, see `tests.support.hardware_host`.
HAS_GUESTS = bool(os.environ.get("KATA_HARDWARE_SHARE"))
needs_guest = pytest.mark.skipif(
    bool(REAL_FIRECRACKER) and not HAS_GUESTS, reason="needs a guest that boots and helps: make hardware has one"
)
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can make a jail or a tap")
needs_tun = pytest.mark.skipif(
    not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="there is no /dev/net/tun to use"
)
