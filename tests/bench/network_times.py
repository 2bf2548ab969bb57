# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What addresses and published ports cost many sandboxes of one task: the same sandboxes with a network of the host, and with a tap and a seed alone.

It runs in network namespaces that it makes itself, so it needs root. Rounds with and without addresses alternate.
"""

from __future__ import annotations

import pathlib
import tempfile
import time
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.batch import converge_many
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_spec
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.management import converge_network
from tests.bench.rows import Row
from tests.support.guest_assets import guest_assets
from tests.support.network_lab import NetworkLab, network_lab

SANDBOXES = 50
TITLE = f"{SANDBOXES} sandboxes in one task, each with an address and a published port"
TAP = {"id": "eth0", "type": "net", "kind": "tap"}


def rows(rounds: int) -> list[Row]:
    """Measure. A round takes minutes, so there are at most three."""
    times = network_times(SANDBOXES, min(rounds, 3))
    return [
        Row(
            step,
            times[f"{step}, addresses"],
            times[f"{step}, plain"],
            "without addresses",
            1.3 if step == "start" else 0,
        )
        for step in ("start", "no-op", "remove")
    ]


def network_times(sandboxes: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of starting that many sandboxes in one task, and of the same task again, with and without addresses."""
    assets = guest_assets()
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as work, network_lab(pathlib.Path(work)) as net:
        options = {
            "kernel_path": str(assets.kernel),
            "initrd_path": str(assets.initrd),
            "memory_mb": 128,
            "vcpus": 1,
            "accelerator": "tcg",
            "state_dir": net.state_root,
            "stop_timeout": 0,
        }
        net.on_host(
            lambda: converge_network(
                "lab", {"subnet": "10.9.0.0/22"}, net.state_root, present=True, force=False, check=False
            )
        )
        for _round in range(rounds):
            for kind in ("plain", "addresses"):
                own: list[dict[str, Any]] = [
                    {"network": "lab", "ports": [f"{20000 + number}:80"]}
                    if kind == "addresses"
                    else {"hostname": f"s{number}", "devices": [TAP]}
                    for number in range(sandboxes)
                ]
                items = [{**options, **one, "id": f"s{number}"} for number, one in enumerate(own)]
                times.setdefault(f"start, {kind}", []).append(_timed(net, items))
                times.setdefault(f"no-op, {kind}", []).append(_timed(net, items))
                gone = [
                    {"id": item["id"], "state": "absent", "state_dir": net.state_root, "stop_timeout": 0}
                    for item in items
                ]
                times.setdefault(f"remove, {kind}", []).append(_timed(net, gone))
    return times


def _timed(net: NetworkLab, items: list[dict[str, Any]]) -> float:
    specs = [parse_spec(item) for item in items]

    def work() -> float:
        started = time.monotonic()
        failed = [result["msg"] for result in converge_many(specs) if result.get("failed")]
        if failed:
            raise RuntimeError(failed[0])
        return time.monotonic() - started

    return float(net.on_host(work))
