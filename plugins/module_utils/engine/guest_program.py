# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's side of the connection plugin: one command in the guest of a sandbox, whose standard input and output are those of this process.

The last line of the output is the caller's nonce and how it ended: `{"code": 0}`, or `{"error": {...}}` where the command could not be run.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any, BinaryIO

from ..errors import HypervisorError
from ..guest.channel import INTERRUPTS
from ..guest.channel_answer import ChannelError
from ..options.spec import SandboxSpec
from ..records.layout import RUN_ROOT, STATE_ROOT
from .guests import guest_channel

#: Bytes of the standard error that an ending has.
MOST_ERRORS = 64 * 1024


class Interrupted(BaseException):
    """This program was interrupted."""


def main(request: dict[str, Any], stdin: BinaryIO, nonce: str) -> None:
    """Run the command that a request names.

    :param request: `id`, `command`, `size` (bytes of standard input), `connect_timeout` (seconds), and optionally `state_dir`, `run_dir` and
        `timeout` (seconds) and `most` (bytes of standard output). With `most`, the standard error is in the ending, as `errors`, since the host's own
        programs write to this one's
    """
    for number in INTERRUPTS:
        signal.signal(number, _interrupt)
    try:
        ending: dict[str, Any] = _run(request, stdin)
    except HypervisorError as problem:
        ending = {"error": {"msg": str(problem), **problem.as_result()}}
    _write(1, f"\n{nonce} {json.dumps(ending, default=str)}\n".encode())


def _run(request: dict[str, Any], stdin: BinaryIO) -> dict[str, Any]:
    spec = SandboxSpec(
        str(request["id"]),
        state_dir=request.get("state_dir") or STATE_ROOT,
        run_dir=request.get("run_dir") or RUN_ROOT,
    )
    most = request.get("most")
    written = 0
    kept = bytearray()

    def write(data: bytes) -> None:
        nonlocal written
        written += len(data)
        if most is not None and written > most:
            raise ChannelError(f"the guest must send at most {most} bytes")
        _write(1, data)

    def write_error(data: bytes) -> None:
        if most is None:
            _write(2, data)
        else:
            kept.extend(data[: MOST_ERRORS - len(kept)])

    with guest_channel(spec, float(request["connect_timeout"])) as channel:
        channel.watched = 1
        code = channel.run(
            request["command"].encode("utf-8", "surrogateescape"),
            stdin,
            int(request["size"]),
            write,
            write_error,
            request.get("timeout"),
        )
    return {"code": code} if most is None else {"code": code, "errors": kept.decode("utf-8", "replace")}


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _interrupt(_number: int, _frame: Any) -> None:
    raise Interrupted
