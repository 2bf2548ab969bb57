# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A template's clones against sandboxes that boot, and hotplug: seconds and memory. The engine in this process, without Ansible."""

from __future__ import annotations

import pathlib
import re
import shutil
import tempfile
import time
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import converge_template
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import (
    parse_device_spec,
    parse_spec,
    parse_template_spec,
)
from tests.bench.rows import Row
from tests.support.guest_assets import Assets, guest_assets
from tests.support.guest_shell import GuestShell

#: Sandboxes that are alive at once while their memory is measured.
ALIVE = 4
TITLE = "Templates and hotplug, the engine without Ansible"


def rows(rounds: int) -> list[Row]:
    """Measure."""
    work = pathlib.Path(tempfile.mkdtemp(prefix="kb-"))
    try:
        directories = {"state_dir": str(work / "state"), "run_dir": str(work / "run")}
        seconds, memory = template_times(directories, guest_assets(), rounds)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    boot = seconds["cold boot to user space"]
    found = [
        Row(name, values, boot if name.startswith("clone") else (), "cold boot" if name.startswith("clone") else "")
        for name, values in seconds.items()
    ]
    return found + [Row(f"memory (PSS) of a sandbox {how}", sizes, unit="MiB") for how, sizes in memory.items()]


def template_times(
    directories: dict[str, str], assets: Assets, count: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds by what was done, and MiB (PSS of QEMU) by how the sandboxes began."""
    boot = {
        "kernel_path": str(assets.kernel),
        "initrd_path": str(assets.initrd),
        "kernel_params": ["quiet", "kata.shell=ttyS0"],
        "memory_mb": 128,
        "max_memory_mb": 1024,
        "max_vcpus": 4,
        "accelerator": "tcg",
        "wait_for": {"console": "kata-guest: ready", "timeout": 120},
    }
    seconds: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}

    def sandbox(name: str, **options: Any) -> dict[str, Any]:
        facts: dict[str, Any] = converge(parse_spec({"id": name, **directories, **options}))["sandbox"]
        return facts

    def timed(what: str, work: Any, *arguments: Any, **options: Any) -> Any:
        started = time.monotonic()
        result = work(*arguments, **options)
        seconds.setdefault(what, []).append(time.monotonic() - started)
        return result

    def device(**options: Any) -> None:
        converge(parse_device_spec({"sandbox": "bench", "id": "data0", **directories, **options}))

    disk = pathlib.Path(directories["state_dir"]).parent / "bench.img"
    disk.write_bytes(bytes(1 << 20))
    timed("make a template", converge_template, parse_template_spec({"id": "base", **directories, **boot}))
    try:
        for _round in range(count):
            began = time.monotonic()
            timed("clone to running", sandbox, "bench", template="base")
            shell = GuestShell(pathlib.Path(directories["run_dir"]) / "bench" / "console.sock")
            seconds.setdefault("clone to its guest's first answer", []).append(time.monotonic() - began)
            shell.close()
            timed("plug a disk in", device, type="block", file=str(disk), driver="virtio-blk")
            timed("unplug it", device, state="absent")
            sandbox("bench", state="absent", stop_timeout=0)
            timed("cold boot to user space", sandbox, "bench", **boot)
            sandbox("bench", state="absent", stop_timeout=0)
        for how, options in (("begun from the template", {"template": "base"}), ("booted", boot)):
            names = [f"bench-{number}" for number in range(ALIVE)]
            facts = [sandbox(name, **options) for name in names]
            memory[how] = [pss_mb(fact["pid"]) for fact in facts]
            for name in names:
                sandbox(name, state="absent", stop_timeout=0)
    finally:
        sandbox("bench", state="absent", stop_timeout=0)
        converge_template(parse_template_spec({"id": "base", "state": "absent", "force": True, **directories}))
    return seconds, memory


def pss_mb(pid: int) -> float:
    """The memory that a process would free by its end, shared pages counted by parts, MiB (proc(5), smaps_rollup)."""
    found = re.search(r"^Pss:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
