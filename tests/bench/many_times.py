# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many sandboxes of one host in one task: fifty of QEMU, whose guests take no processor time, and a thousand of the mock driver."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Iterator

from ansible_collections.kata.hypervisor.plugins.module_utils.engine import batch
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import spawn
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.driver import QemuHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec, make_config
from tests.bench.playing import play
from tests.bench.rows import Row
from tests.support.checkout import ROOT
from tests.support.lab import SandboxLab
from tests.support.stub_kernel import halted_kernel

TITLE = "Many sandboxes in one task"
SANDBOXES, RECORDS, BOOTING = 50, 1000, 10
#: Seconds that a guest gets to shut down, which it does not do.
POLITE = 3
MODULE = "kata.hypervisor.kata_sandboxes"


def rows(rounds: int) -> list[Row]:
    """Measure."""
    rounds = max(1, rounds // 3)
    return [*qemu_rows(rounds), *mock_rows(rounds)]


# --- fifty of QEMU -----------------------------------------------------------------------------------------------------


def qemu_rows(rounds: int) -> list[Row]:
    """Starts, no-ops and removals of sandboxes of QEMU, and what one that hangs does to the others."""
    lab = SandboxLab("qemu")
    boot = {
        "kernel_path": lab.file("vmlinux", mode=0o644, content=halted_kernel()),
        "initrd_path": lab.file("initrd", mode=0o644),
        "memory_mb": 64,
        "accelerator": "tcg",
    }
    ids = [f"s{number}" for number in range(SANDBOXES)]
    seconds: dict[str, list[float]] = {}

    def timed(what: str, work: Callable[[], Any]) -> None:
        began = time.monotonic()
        work()
        seconds.setdefault(what, []).append(time.monotonic() - began)

    try:
        for number in range(rounds):
            seconds.setdefault("raw", []).append(raw_starts(lab, boot))
            timed("start", lambda: _converge(lab, ids, state="started", **boot))
            if number == 0:
                times = play(lab.root, _no_ops(lab, ids, 3 * rounds))
            seconds.setdefault("beside a hung one", []).append(_answers_beside_hung(lab, ids))
            seconds.setdefault("without a hung one", []).append(_last_answer(lab, ids[1:]))
            timed("remove", lambda: _converge(lab, ids, state="absent", stop_timeout=0))
            for what, some in (("one polite", ids[:1]), ("ten polite", ids[:BOOTING])):
                _converge(lab, some, state="started", **boot)
                timed(what, lambda some=some: _converge(lab, some, state="absent", stop_timeout=POLITE))  # type: ignore[misc]
    finally:
        _converge(lab, ids, state="absent", stop_timeout=0)
        lab.destroy()
    return [
        Row(f"{SANDBOXES} starts, the engine", seconds["start"], seconds["raw"], "QEMU alone, as many at a time", 1.15),
        Row(f"no-op of {SANDBOXES}, a task", times["fifty"], times["one"], "no-op of one", 1.2),
        Row("49 no-ops beside one that hangs", seconds["beside a hung one"], seconds["without a hung one"], "49", 1.1),
        Row(
            f"{BOOTING} guests that do not shut down", seconds["ten polite"], seconds["one polite"], "one of them", 1.5
        ),
        Row(f"{SANDBOXES} removed", seconds["remove"]),
    ]


def _converge(lab: SandboxLab, ids: list[str], **options: Any) -> None:
    results = batch.converge_many([lab.spec(one, **options) for one in ids])
    failed = [result["msg"] for result in results if result.get("failed")]
    if failed:
        raise SystemExit(failed[0])


def _no_ops(lab: SandboxLab, ids: list[str], count: int) -> list[dict[str, Any]]:
    named = {"fifty": ids, "one": ids[:1]}
    return [
        {"name": name, MODULE: {"sandboxes": [{"id": one, "state": "started"} for one in some], **lab.directories()}}
        for _round in range(count)
        for name, some in named.items()
    ]


def raw_starts(lab: SandboxLab, boot: dict[str, Any]) -> float:
    """Seconds from the first start of a QEMU to the last answer on QMP, with the engine's command lines and as many at a time. Everything before the
    start is done before."""
    turns, ready = threading.Semaphore(batch.PARALLEL), threading.Barrier(SANDBOXES + 1)
    answered: list[float] = []
    original = spawn.launch

    def launch(*arguments: Any) -> Any:
        ready.wait()
        with turns:
            client = original(*arguments)
        answered.append(time.monotonic())
        return client

    def start(number: int) -> QemuHypervisor:
        name = f"raw-{number}"
        driver = QemuHypervisor(Context(name, str(lab.root / "run" / name), str(lab.root / "state/sandboxes" / name)))
        driver.create_sandbox(make_config(boot))
        driver.start_sandbox(60)
        return driver

    spawn.launch = launch
    try:
        with concurrent.futures.ThreadPoolExecutor(SANDBOXES) as pool:
            starts = [pool.submit(start, number) for number in range(SANDBOXES)]
            ready.wait(120)
            began = time.monotonic()
            drivers = [one.result() for one in starts]
    finally:
        spawn.launch = original
    for driver in drivers:
        driver.stop_sandbox(0, force=True)
        driver.cleanup()
    return max(answered) - began


def _last_answer(lab: SandboxLab, ids: list[str], apart_from: str = "") -> float:
    """Seconds until the last no-op is done, apart from that of one sandbox."""
    done: list[float] = []
    original = batch.converge

    def converge(spec: SandboxSpec, *arguments: Any) -> Any:
        try:
            return original(spec, *arguments)
        finally:
            if spec.id != apart_from:
                done.append(time.monotonic())

    batch.converge = converge
    began = time.monotonic()
    try:
        batch.converge_many([lab.spec(one, state="started") for one in ids])
    finally:
        batch.converge = original
    return max(done) - began


def _answers_beside_hung(lab: SandboxLab, ids: list[str]) -> float:
    hung = int(lab.run_path("pid", ids[0]).read_text())
    os.kill(hung, signal.SIGSTOP)
    try:
        return _last_answer(lab, ids, ids[0])
    finally:
        os.kill(hung, signal.SIGCONT)


# --- a thousand of the mock driver -------------------------------------------------------------------------------------


def mock_rows(rounds: int) -> list[Row]:
    """Tasks about many records, as a user waits for them, and the memory of the module."""
    lab = SandboxLab("mock")
    sandboxes = [
        {"id": f"s{number}", "hypervisor": "mock", "kernel_path": "/k", "initrd_path": "/i"}
        for number in range(RECORDS)
    ]

    def task(name: str, state: str) -> dict[str, Any]:
        items = [{**sandbox, "state": state} for sandbox in sandboxes]
        return {"name": name, MODULE: {"sandboxes": items, **lab.directories()}}

    ping = {"name": "ping", "ansible.builtin.ping": {}}
    one_round = [
        *[ping] * 3,
        task("create", "started"),
        *[task("no-op", "started")] * 2,
        *[{"name": "info", "kata.hypervisor.kata_sandbox_info": lab.directories()}] * 2,
        task("remove", "absent"),
    ]
    try:
        times = play(lab.root, one_round * rounds)
        memory = [_peak_mb(task("create", "started")[MODULE])]
    finally:
        lab.destroy()
    return [
        Row("ping", times["ping"]),
        Row(f"{RECORDS} mock sandboxes created", times["create"], [10.0], "10 s", 1.0),
        Row(f"{RECORDS} mock sandboxes, no-op", times["no-op"], [2.0], "2 s", 1.0),
        Row(f"kata_sandbox_info of {RECORDS}", times["info"], [1.0], "1 s", 1.0),
        Row(f"{RECORDS} mock sandboxes removed", times["remove"]),
        Row(f"memory of the module, {RECORDS}", memory, [100.0], "100 MiB", 1.0, "MiB"),
    ]


#: Runs the module as the engine does on a host.
RUN = """
import json, sys
from ansible.module_utils import basic
basic._ANSIBLE_PROFILE, basic._ANSIBLE_ARGS = "legacy", sys.stdin.buffer.read()
from ansible_collections.kata.hypervisor.plugins.modules.kata_sandboxes import main
main()
"""


def _peak_mb(options: dict[str, Any]) -> float:
    """The most memory that the module takes, MiB."""
    with _process([sys.executable, "-c", RUN]) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode())
        process.stdin.close()
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the module ended with code {process.returncode}")
    return usage.ru_maxrss / 1024


@contextlib.contextmanager
def _process(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    path = os.pathsep.join([str(ROOT / ".collections"), *filter(None, sys.path)])
    with pathlib.Path(os.devnull).open("wb") as nothing:
        yield subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=nothing, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}
        )
