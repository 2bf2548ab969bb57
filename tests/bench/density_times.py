# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests on one host: how long the default initrd boots beside the least that boots at all, what a guest takes, and what the n-th clone costs."""

from __future__ import annotations

import os
import pathlib
import re
import resource
import select
import subprocess
import time
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import converge_template
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.cpio import Archive
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.tiny_programs import Call, program
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_template_spec
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.vmlinux import extract_vmlinux
from tests.bench.rows import Row
from tests.bench.template_times import pss_mb
from tests.support.guest_assets import Assets, guest_assets
from tests.support.qemu_lab import QemuLab

TITLE = "Guests on one host, emulated"
CLONES, BOOTED, MEMORY_MB, HOST_MB = 24, 2, 128, 8192
READY = b"kata-guest: ready"
PATIENCE = 300
PARAMETERS = "console=ttyS0 quiet panic=1"


def rows(rounds: int) -> list[Row]:
    """Measure."""
    assets = guest_assets()
    lab = QemuLab(assets)
    try:
        boots = boot_seconds(lab.root, assets, max(1, rounds // 3))
        return [
            Row("default initrd, start to ready", boots["default"], boots["least"], "microvm, init that prints", 1.5),
            Row("the same with the guest agent", boots["agent"], boots["least"], "microvm, init that prints"),
            *clone_rows(lab),
        ]
    finally:
        lab.remove_all()
        lab.destroy()


def boot_seconds(work: pathlib.Path, assets: Assets, rounds: int) -> dict[str, list[float]]:
    """Processor seconds of QEMU from its start until its guest is ready, by what it boots. They depend less on what else the machine does than the time."""
    archive, init = Archive(), program("x86_64", [Call("write", (1, READY + b"\n", len(READY) + 1))])
    archive.add_directory("/dev")
    archive.add_character_device("/dev/console", 5, 1)
    archive.add_file("/init", init, 0o755)
    (work / "least.img").write_bytes(archive.to_bytes())
    (work / "vmlinux").write_bytes(extract_vmlinux(str(assets.kernel)))
    machines = {
        "least": ("microvm,acpi=off", work / "vmlinux", work / "least.img"),
        "default": ("q35", assets.kernel, assets.initrd),
        "agent": ("q35", assets.kernel, assets.agent_initrd),
    }
    found: dict[str, list[float]] = {}
    for _round in range(rounds):
        for name, (machine, kernel, initrd) in machines.items():
            words = ["-M", machine, "-kernel", str(kernel), "-initrd", str(initrd), "-append", PARAMETERS]
            found.setdefault(name, []).append(_seconds_to_ready(words))
    return found


def _seconds_to_ready(words: list[str]) -> float:
    before = _seconds_of_children()
    common = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-m",
        str(MEMORY_MB),
        "-accel",
        "tcg",
        "-cpu",
        "max",
    ]
    command = ["qemu-system-x86_64", *common, "-serial", "stdio", *words]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as qemu:
        assert qemu.stdout is not None
        output = b""
        while READY not in output:
            part = os.read(qemu.stdout.fileno(), 65536) if select.select([qemu.stdout], [], [], PATIENCE)[0] else b""
            if not part:
                qemu.kill()
                raise SystemExit(f"the guest of {' '.join(words)} is not ready: {output[-500:]!r}")
            output += part
        qemu.kill()
    return _seconds_of_children() - before


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def clone_rows(lab: QemuLab) -> list[Row]:
    """What clones of one template take, and a guest that has booted."""
    template = {"id": "base", **lab.directories()}
    boot: dict[str, Any] = {
        "kernel_path": str(lab.assets.kernel),
        "initrd_path": str(lab.assets.initrd),
        "memory_mb": MEMORY_MB,
        "accelerator": "tcg",
        "wait_for": {"console": READY.decode(), "timeout": PATIENCE},
    }
    converge_template(parse_template_spec({**template, **boot}))
    try:
        free, seconds, processors = [_available_mb()], [], []
        pids: list[int] = []
        for number in range(CLONES):
            began = time.monotonic()
            pids.append(lab.run(f"clone-{number}", state="started", template="base")["sandbox"]["pid"])
            seconds.append(time.monotonic() - began)
            free.append(_available_mb())
        clones = [pss_mb(pid) for pid in pids]
        used, began = sum(_ticks(pid) for pid in pids), time.monotonic()
        time.sleep(5)
        processors.append((sum(_ticks(pid) for pid in pids) - used) / CLONES / (time.monotonic() - began))
        booted = [
            pss_mb(lab.run(f"booted-{number}", state="started", **boot)["sandbox"]["pid"]) for number in range(BOOTED)
        ]
    finally:
        for name in sorted(lab.ids):
            lab.run(name, state="absent", stop_timeout=0)
        converge_template(parse_template_spec({**template, "state": "absent", "force": True}))
    grown = (free[0] - free[-1]) / CLONES
    quarter = CLONES // 4
    return [
        Row("PSS of a clone", clones, booted, "a guest that has booted", unit="MiB"),
        Row("memory that the host loses to a clone", [grown], clones, "PSS", unit="MiB"),
        Row(f"clones in {HOST_MB // 1024} GiB, from that growth", [HOST_MB / grown], unit="clones"),
        Row(f"the last of {CLONES} clones", seconds[-quarter:], seconds[:quarter], "the first", 1.5),
        Row("processor time of an idle clone, per second", processors),
    ]


def _available_mb() -> float:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def _ticks(pid: int) -> float:
    """Processor seconds of a process (proc(5), stat)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
