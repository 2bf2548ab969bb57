# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands and files in a guest on real QEMU, through its agent and data channels."""

from __future__ import annotations

import io
import random

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.guests import guest_channel
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded, StateError
from tests.support.qemu_lab import QemuLab
from tests.support.waiting import PATIENCE


def run(lab: QemuLab, command: str, stdin: bytes = b"", **more: float) -> tuple[int, bytes, bytes]:
    output, errors = bytearray(), bytearray()
    with guest_channel(lab.spec(), PATIENCE, lab.factory) as channel:
        code = channel.run(command.encode(), io.BytesIO(stdin), len(stdin), output.extend, errors.extend, **more)
    return code, bytes(output), bytes(errors)


def test_commands_in_a_guest(lab: QemuLab) -> None:
    with pytest.raises(StateError, match="must exist"):
        run(lab, "true")
    lab.start(initrd_path=str(lab.assets.agent_initrd), wait_for={"agent": True, "timeout": PATIENCE})
    assert run(lab, "uname -r; echo err >&2; exit 5") == (5, (lab.shell().run("uname -r") + "\n").encode(), b"err\n")
    data = random.Random(1).randbytes(5_000_001)
    assert run(lab, "cat", data) == (0, data, b"")
    with pytest.raises(DeadlineExceeded):
        run(lab, "sleep 1000", timeout=2)
    assert run(lab, "ps | grep -c '[s]leep 1000'")[1] == b"0\n"

    # What was saved goes on as it was, and so does the loop.
    run(lab, "echo kept >/tmp/kept")
    lab.run(state="saved")
    with pytest.raises(StateError, match="it is saved"):
        run(lab, "true")
    lab.run(state="started")
    assert run(lab, "cat /tmp/kept") == (0, b"kept\n", b"")
