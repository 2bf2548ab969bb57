# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random wishes for one sandbox on real QEMU, one after the other: `make soak`.

Whatever is wished, check mode foretells what the run does, another run has nothing to do, QEMU has the devices that are listed and nothing of those
that were, and the guest sees them. KATA_SOAK_STEPS says how many wishes, KATA_SOAK_SEED which ones; the seed of a failure is in the test's name.
"""

from __future__ import annotations

import os
import pathlib
import random
import re
import signal
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded, HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.qmp import QmpClient
from tests.support.qemu_lab import QemuLab

STEPS = int(os.environ.get("KATA_SOAK_STEPS", "60"))
SEED = int(os.environ.get("KATA_SOAK_SEED", "0")) or random.randrange(1, 1 << 30)
MOST_VCPUS, MOST_MB, BOOT_MB = 4, 704, 192
DISKS = 6
#: Wishes that a busy guest had no time for are made this often.
PATIENCE = 8
READY = {"console": "kata-guest: ready", "timeout": 120}


class Wisher:
    """Makes up wishes, each after the last."""

    def __init__(self, rng: random.Random, root: pathlib.Path) -> None:
        self.rng = rng
        self.root = root
        self.vcpus = 1
        (root / "shared").mkdir()
        for number in range(DISKS):
            (root / f"disk{number}.raw").write_bytes(bytes(2 << 20))

    def next(self) -> dict[str, Any]:
        """A task's options."""
        rng = self.rng
        wish: dict[str, Any] = {"stop_timeout": 0}
        kind = rng.choice(
            ["devices", "devices", "devices", "vcpus", "memory", "state", "everything", "devices of a paused VM"]
        )
        if "devices" in kind or kind == "everything":
            wish["devices"] = self.devices()
        if kind in ("vcpus", "everything"):
            # Fewer are refused under TCG.
            self.vcpus = wish["vcpus"] = rng.randint(self.vcpus, MOST_VCPUS)
        if kind in ("memory", "everything"):
            wish["memory_mb"] = rng.choice(range(BOOT_MB, MOST_MB + 1, 64))
        if kind == "state":
            wish["state"] = rng.choice(["paused", "started", "saved", "stopped"])
        if kind == "devices of a paused VM":
            wish["state"] = "paused"
        if rng.random() < 0.3:
            wish["disruption"] = "restart"
        return wish

    def devices(self) -> list[dict[str, Any]]:
        """A list of devices."""
        rng = self.rng
        listed = [self.disk(number) for number in rng.sample(range(DISKS), rng.randint(0, 4))]
        if rng.random() < 0.4:
            listed.append({"id": "net0", "type": "net", "kind": rng.choice(["user", "tap"])})
        if rng.random() < 0.3:
            listed.append({"id": "port0", "type": "serial", "name": "org.example.port"})
        if rng.random() < 0.3:
            listed.append({"id": "share0", "type": "fs", "tag": "work", "path": str(self.root / "shared")})
        return listed

    def disk(self, number: int) -> dict[str, Any]:
        """A disk; every time another one of that id."""
        rng = self.rng
        disk = {
            "id": f"disk{number}",
            "type": "block",
            "file": str(self.root / f"disk{number}.raw"),
            "serial": f"S{number}",
        }
        disk["driver"] = rng.choice(["virtio-blk", "virtio-scsi"])
        if rng.random() < 0.3:
            disk["read_only"] = True
        if rng.random() < 0.3:
            disk["rate_limit"] = {"ops": rng.choice([100, 1000])}
        if rng.random() < 0.3:
            disk["cache"] = rng.choice(["none", "writeback", "writethrough"])
        return disk


def outcome(lab: QemuLab, check_mode: bool, wish: dict[str, Any]) -> tuple[Any, ...]:
    """What a run comes to: its actions, or the kind of its error."""
    try:
        result = lab.run(check_mode=check_mode, **wish)
    except HypervisorError as error:
        return (type(error), str(error))
    # How much a balloon holds can be another MiB at the next look.
    return (
        result["changed"],
        [re.sub(r"resize_memory \d+ ->", "resize_memory ->", action) for action in result["actions"]],
    )


def grant(lab: QemuLab, wish: dict[str, Any]) -> bool:
    """Run a wish, foretold by check mode; whether it was granted, and not refused with reason."""
    for _time in range(PATIENCE):
        foretold, done = outcome(lab, True, wish), outcome(lab, False, wish)
        if done[0] is DeadlineExceeded:
            # The guest is busy, most likely with its start.
            lab.run(wait_for=READY)
            continue
        assert foretold == done
        return isinstance(done[0], bool)
    raise AssertionError(f"after {PATIENCE} times the guest has still no time for it")


def check_devices(lab: QemuLab, listed: list[dict[str, Any]]) -> None:
    """QEMU and, where it runs, the guest have these devices."""
    disks = [device for device in listed if device["type"] == "block"]
    with QmpClient(str(lab.run_path("monitor.sock"))) as qmp:
        nodes = {node["node-name"] for node in qmp.execute("query-named-block-nodes", {"flat": True})}
        chardevs = {chardev["label"] for chardev in qmp.execute("query-chardev")}
        peripherals = {entry["name"] for entry in qmp.execute("qom-list", {"path": "/machine/peripheral"})}
    assert {name for name in nodes if name.startswith("node-")} == {f"node-{disk['id']}" for disk in disks}
    assert {name for name in nodes if name.startswith("limited-")} == {
        f"limited-{disk['id']}" for disk in disks if "rate_limit" in disk
    }
    assert {name for name in peripherals if name.startswith("dev-")} == {f"dev-{device['id']}" for device in listed}
    assert {name for name in chardevs if name.startswith("char-")} == {
        f"char-{device['id']}" for device in listed if device["type"] in ("serial", "fs")
    }


def check_guest(lab: QemuLab, listed: list[dict[str, Any]]) -> None:
    """The guest sees the virtio disks that are listed, and no other."""
    serials = sorted(disk["serial"] for disk in listed if disk.get("driver") == "virtio-blk")
    lab.run(wait_for=READY)
    shell = lab.shell()
    shell.eventually(
        'for s in /sys/block/vd*/serial; do [ -f $s ] && echo $(cat $s); done | sort | tr "\\n" " "; true',
        f"^{' '.join(serials)}$",
    )
    shell.close()


@pytest.mark.parametrize("memory_hotplug", ["virtio-mem", "pc-dimm", "balloon"])
@pytest.mark.parametrize("machine_type", ["q35", "pc"])
@pytest.mark.parametrize("seed", [SEED])
def test_random_wishes(lab: QemuLab, seed: int, machine_type: str, memory_hotplug: str) -> None:
    rng = random.Random(f"{seed} {machine_type} {memory_hotplug}")
    wisher = Wisher(rng, lab.root)
    sizes = {"vcpus": 1, "max_vcpus": MOST_VCPUS, "memory_mb": BOOT_MB, "max_memory_mb": MOST_MB}
    lab.start(machine_type=machine_type, memory_hotplug=memory_hotplug, bridges=2, shared_fs="virtio-fs", **sizes)
    for step in range(STEPS):
        if rng.random() < 0.05 and lab.facts()["pid"]:
            os.kill(lab.facts()["pid"], signal.SIGKILL)
        wish = wisher.next()
        print(f"{step}: {wish}")
        if not grant(lab, wish):
            continue
        assert lab.run(**wish)["changed"] is False
        facts = lab.facts()
        assert facts["state"] == wish.get("state", facts["state"])
        alive = facts["state"] in ("started", "paused")
        if alive:
            assert facts["vcpus"] == wish.get("vcpus", facts["vcpus"])
            assert facts["memory_mb"] == wish.get("memory_mb", facts["memory_mb"])
        if "devices" in wish:
            assert sorted(device["id"] for device in facts["devices"]) == sorted(
                device["id"] for device in wish["devices"]
            )
            if alive:
                check_devices(lab, wish["devices"])
            if facts["state"] == "started":
                check_guest(lab, wish["devices"])
