# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user waits for, measured on this host in one run: medians, and their ratios to `ping` and to QEMU's own start.

    make bench            10 rounds
    .venv/bin/python -m tests.bench.run --rounds 20

Everything of a round is interleaved, so that a noisy machine is noisy for all of it. Times are not compared with limits: a machine's
clock fails no test.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, Iterator

from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import spawn
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.driver import QemuHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import Param
from tests.bench.firecracker_times import firecracker_rows, firecracker_title
from tests.bench.template_times import template_times
from tests.support.checkout import ROOT
from tests.support.guest_assets import Assets, guest_assets

HERE = pathlib.Path(__file__).resolve().parent

MEMORY_MB = 128


def rounds_of_tasks(count: int, directories: dict[str, str], assets: Assets) -> list[dict[str, Any]]:
    """The tasks of a play that does everything once a round, each round with a sandbox of its own."""
    tasks: list[dict[str, Any]] = []
    for number in range(count):
        sandbox = {"id": f"bench-{number}", **directories}

        def task(name: str, sandbox: dict[str, Any] = sandbox, **options: Any) -> None:
            tasks.append({"name": name, "kata.hypervisor.kata_sandbox": {**sandbox, **options}})

        tasks.append({"name": "ping", "ansible.builtin.ping": {}})
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
        tasks.append({"name": "ping", "ansible.builtin.ping": {}})
        task("no-op on a running sandbox", state="started")
        tasks.append(
            {
                "name": "wait for the guest",
                "kata.hypervisor.kata_sandbox": {**sandbox, "wait_for": {"console": "ready", "timeout": 120}},
            }
        )
        task("pause", state="paused")
        task("resume", state="started")
        task("vCPUs 1 to 3", vcpus=3)
        task("memory 128 to 512 MiB", memory_mb=512)
        task("no-op on a running sandbox", state="started")
        task("memory 512 to 256 MiB", memory_mb=256)
        task("stop", state="stopped", stop_timeout=0)
        task("remove", state="absent")
    return tasks


def play(work: pathlib.Path, tasks: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Run the tasks; seconds by task name."""
    playbook = work / "bench.yml"
    playbook.write_text(
        json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}])
    )
    times = work / "times"
    environment = {
        **os.environ,
        "BENCH_TIMES": str(times),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "task_times",
    }
    command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), str(playbook)]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise SystemExit(done.stdout[-4000:])
    found: dict[str, list[float]] = {}
    for line in times.read_text().splitlines():
        result = json.loads(line)
        found.setdefault(result["name"], []).append(result["seconds"])
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


def module_cost(work: pathlib.Path, directories: dict[str, str], assets: Assets, count: int) -> dict[str, list[float]]:
    """Seconds of the module on the host without Ansible's transport: the very payload that is sent, run again and again."""
    start = {
        "id": "cost",
        "state": "started",
        "kernel_path": str(assets.kernel),
        "initrd_path": str(assets.initrd),
        "memory_mb": MEMORY_MB,
        "accelerator": "tcg",
        **directories,
    }
    found: dict[str, list[float]] = {}
    payloads = {}
    for name, module, options in (
        ("kata_sandbox", "kata.hypervisor.kata_sandbox", start),
        ("kata_sandbox no-op", "kata.hypervisor.kata_sandbox", {"id": "cost", "state": "started", **directories}),
        ("ping", "ansible.builtin.ping", {"data": "pong"}),
    ):
        remote = work / name.replace(" ", "-")
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_KEEP_REMOTE_FILES": "1",
            "ANSIBLE_PIPELINING": "0",
            "ANSIBLE_REMOTE_TMP": str(remote),
        }
        command = [
            str(pathlib.Path(sys.executable).with_name("ansible")),
            "localhost",
            "-m",
            module,
            "-a",
            json.dumps(options),
        ]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=ROOT
        )
        if done.returncode:
            raise SystemExit(done.stdout[-4000:])
        payloads[name] = next(remote.rglob("AnsiballZ_*.py"))
    try:
        for _round in range(count):
            for name in ("ping", "kata_sandbox no-op"):
                started = time.monotonic()
                subprocess.run(
                    [sys.executable, str(payloads[name])],
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stdin=subprocess.DEVNULL,
                )
                found.setdefault(name, []).append(time.monotonic() - started)
    finally:
        options = json.dumps({"id": "cost", "state": "absent", "stop_timeout": 0, **directories})
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        command = [
            str(pathlib.Path(sys.executable).with_name("ansible")),
            "localhost",
            "-m",
            "kata.hypervisor.kata_sandbox",
            "-a",
            options,
        ]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
    return found


def show(title: str, rows: list[tuple[str, list[float], str]]) -> None:
    """A table: name, median, spread, how many, and what it is compared with."""
    print(f"\n{title}")
    for name, values, ratio in rows:
        print(
            f"  {name:34} {statistics.median(values) * 1000:8.1f} ms   min {min(values) * 1000:8.1f}   n {len(values):3}   {ratio}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    count = parser.parse_args().rounds
    assets = guest_assets()
    work = pathlib.Path(tempfile.mkdtemp(prefix="kb-"))
    directories = {"state_dir": str(work / "state"), "run_dir": str(work / "run")}
    try:
        raw = raw_qemu(work, assets, count // 2)
        times = play(work, rounds_of_tasks(count, directories, assets))
        raw += raw_qemu(work, assets, count - count // 2)
        cost = module_cost(work, directories, assets, count)
        clones, memory = template_times(directories, assets, count)
        firecracker = firecracker_rows(play, work, count)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    ping, qemu = statistics.median(times["ping"]), statistics.median(raw)
    rows = []
    for name, values in times.items():
        if name not in ("ping", "wait for the guest"):
            rows.append((name, values, f"{statistics.median(values) / ping:5.2f} x ping"))
    boot = statistics.median(clones["cold boot to user space"])
    faster = []
    for name, values in clones.items():
        ratio = f"{boot / statistics.median(values):6.1f} times as fast as the boot" if name.startswith("clone") else ""
        faster.append((name, values, ratio))
    show("Templates and hotplug, the engine without Ansible", faster)
    for name, sizes in memory.items():
        print(f"  {name:34} {statistics.median(sizes):8.1f} MiB  PSS of its QEMU, each of {len(sizes)} at once")
    show("QEMU alone", [("start to QMP ready, no Ansible", raw, "")])
    show("With Ansible, local connection", [("ansible.builtin.ping", times["ping"], ""), *rows])
    show(firecracker_title(), firecracker)
    payload = statistics.median(cost["ping"])
    ratio = f"{statistics.median(cost['kata_sandbox no-op']) / payload:5.2f} x ping's payload"
    show(
        "On the host, without transport",
        [("ping", cost["ping"], ""), ("kata_sandbox, no-op", cost["kata_sandbox no-op"], ratio)],
    )
    start, noop = statistics.median(times["start to running"]), statistics.median(times["no-op on a running sandbox"])
    print(
        f"\nAims: no-op {noop / ping:.2f} x ping (at most 1.25); start {start / (ping + 2 * qemu):.2f} x (ping + 2 x QEMU) (at most 1)"
    )


if __name__ == "__main__":
    main()
