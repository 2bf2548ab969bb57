# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks on one sandbox of QEMU, as a user waits for them, beside `ping` and QEMU's own start."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import statistics
import tempfile
import time
from typing import Any, Iterator

from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import spawn
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.driver import QemuHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import Param
from tests.bench.playing import play
from tests.bench.rows import Row
from tests.support.guest_assets import Assets, guest_assets

TITLE = "Tasks on one sandbox of QEMU, local connection"
MEMORY_MB = 128
NO_OP = "no-op on a running sandbox"


def rows(rounds: int) -> list[Row]:
    """Measure."""
    assets = guest_assets()
    work = pathlib.Path(tempfile.mkdtemp(prefix="kb-"))
    directories = {"state_dir": str(work / "state"), "run_dir": str(work / "run")}
    try:
        qemu = raw_qemu(work, assets, rounds // 2)
        times = play(work, tasks(rounds, directories, assets))
        qemu += raw_qemu(work, assets, rounds - rounds // 2)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    ping = times["ping"]
    start = statistics.median(ping) + 1.5 * statistics.median(qemu)
    found = [
        Row("QEMU alone, start to QMP", qemu),
        Row(NO_OP, times[NO_OP], ping, "ping", 1.10),
        Row("start to running", times["start to running"], [start], "ping + 1.5 x QEMU's own start", 1.0),
    ]
    for name in ("pause", "resume", "vCPUs 1 to 3", "memory 128 to 512 MiB", "memory 512 to 256 MiB", "stop", "remove"):
        found.append(Row(name, times[name], ping, "ping"))
    return found


def tasks(count: int, directories: dict[str, str], assets: Assets) -> list[dict[str, Any]]:
    """The tasks of a play that does everything once a round, each round with a sandbox of its own."""
    found: list[dict[str, Any]] = []
    for number in range(count):
        sandbox = {"id": f"bench-{number}", **directories}

        def task(name: str, sandbox: dict[str, Any] = sandbox, **options: Any) -> None:
            found.append({"name": name, "kata.hypervisor.kata_sandbox": {**sandbox, **options}})

        found.append({"name": "ping", "ansible.builtin.ping": {}})
        task(
            "start to running",
            state="started",
            kernel_path=str(assets.kernel),
            initrd_path=str(assets.initrd),
            memory_mb=MEMORY_MB,
            max_memory_mb=1024,
            max_vcpus=4,
            accelerator="tcg",
        )
        found.append({"name": "ping", "ansible.builtin.ping": {}})
        task(NO_OP, state="started")
        task("wait for the guest", wait_for={"console": "ready", "timeout": 600})
        task("pause", state="paused")
        task("resume", state="started")
        task("vCPUs 1 to 3", vcpus=3)
        task("memory 128 to 512 MiB", memory_mb=512)
        task(NO_OP, state="started")
        task("memory 512 to 256 MiB", memory_mb=256)
        task("stop", state="stopped", stop_timeout=0)
        task("remove", state="absent")
    return found


def raw_qemu(work: pathlib.Path, assets: Assets, count: int) -> list[float]:
    """Seconds from the start of QEMU, with the command line that the driver uses, to its answer on QMP. No Ansible."""
    seconds: list[float] = []
    for number in range(count):
        context = Context(f"raw-{number}", str(work / "run" / f"raw-{number}"), str(work / "state"))
        driver = QemuHypervisor(context)
        driver.create_sandbox(
            HypervisorConfig(
                kernel_path=str(assets.kernel),
                initrd_path=str(assets.initrd),
                memory_size=MEMORY_MB,
                max_memory_mb=1024,
                default_max_vcpus=4,
                accelerator="tcg",
                kernel_params=[Param("quiet")],
            )
        )
        with _timed_launch(seconds):
            driver.start_sandbox(30)
        driver.stop_sandbox(0, force=True)
        driver.cleanup()
    return seconds


@contextlib.contextmanager
def _timed_launch(seconds: list[float]) -> Iterator[None]:
    """Add what QEMU alone takes, of a start of ours, to a list."""

    def timed(*arguments: Any) -> Any:
        started = time.monotonic()
        client = original(*arguments)
        seconds.append(time.monotonic() - started)
        return client

    original = spawn.launch
    spawn.launch = timed
    try:
        yield
    finally:
        spawn.launch = original
