# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What starting, looking at, pausing and cloning a microVM takes, beside Firecracker's own start and `ping`.

With a real Firecracker where KATA_TEST_FIRECRACKER names one, else with the stand-in; jailed too, where KATA_TEST_JAILER and root are there.
"""

from __future__ import annotations

import pathlib
import subprocess
import tempfile
import time
from typing import Any, Callable

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import converge_template
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import VmmError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api.client import ApiClient
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_template_spec
from tests.bench.playing import play
from tests.bench.rows import Row
from tests.support.firecracker_lab import FirecrackerLab
from tests.support.stand_ins import FIRECRACKER, IS_ROOT, REAL_FIRECRACKER, REAL_JAILER

#: What shows that the guest has begun, the smallest kernel's or the stand-in's.
BOOTED = "console: stub: running|guest: ready"
TITLE = f"Firecracker ({'real' if REAL_FIRECRACKER else 'the stand-in, whose times are those of Python'})"


def rows(rounds: int) -> list[Row]:
    """Measure."""
    found: list[Row] = []
    jails = [False, True] if IS_ROOT and bool(REAL_JAILER) == bool(REAL_FIRECRACKER) else [False]
    alone: list[float] = []
    for jailed in jails:
        lab = FirecrackerLab(jailed)
        try:
            times = _engine(lab, alone, rounds)
            if not jailed:
                with tempfile.TemporaryDirectory(prefix="kb-") as work:
                    tasks = play(pathlib.Path(work), _tasks(lab, rounds))
                ping = tasks.pop("ping")
                found += [Row(f"Ansible: {name}", values, ping, "ping") for name, values in tasks.items()]
        finally:
            lab.destroy()
        for name, values in times.items():
            begins = "start" in name or "clone" in name
            found.append(
                Row(
                    f"{'jailed' if jailed else 'plain'}: {name}",
                    values,
                    alone if begins else (),
                    "Firecracker's own start" if begins else "",
                )
            )
    return [Row("Firecracker alone, to running", alone), *found]


def _engine(lab: FirecrackerLab, alone: list[float], count: int) -> dict[str, list[float]]:
    """Seconds by what was done, by the engine in this process."""
    seconds: dict[str, list[float]] = {}

    def timed(what: str, act: Callable[[], Any]) -> None:
        began = time.monotonic()
        act()
        seconds.setdefault(what, []).append(time.monotonic() - began)

    paths = lab.directories()
    wish = {"id": "base", "hypervisor": "firecracker", "wait_for": BOOTED, **lab.options, **paths}
    converge_template(parse_template_spec(wish))
    for _round in range(count):
        alone.append(_alone(lab))
        timed("start", lab.start)
        timed("no-op", lab.run)
        timed("pause", lambda: lab.run(state="paused"))
        timed("resume", lambda: lab.run(state="started"))
        timed("save (pause, write, end)", lambda: lab.run(state="saved"))
        timed("restore and resume", lambda: lab.run(state="started"))
        timed("stop", lambda: lab.run(state="stopped", stop_timeout=0))
        lab.run(state="absent")
        timed("clone to running", lambda: lab.run("clone", state="started", template="base"))
        lab.run("clone", state="absent", stop_timeout=0)
    converge_template(parse_template_spec({"id": "base", "state": "absent", **paths}))
    return seconds


def _alone(lab: FirecrackerLab) -> float:
    """Seconds from a Firecracker's start to its VM's, by the fewest requests; nobody else takes part."""
    socket = lab.root / "alone.sock"
    socket.unlink(missing_ok=True)
    began = time.monotonic()
    process = subprocess.Popen(
        [FIRECRACKER, "--api-sock", str(socket)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        api = ApiClient(str(socket), 5)
        deadline = began + 20
        while True:
            try:
                api.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": lab.options["memory_mb"]})
                break
            except VmmError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)
        api.put("/boot-source", {"kernel_image_path": lab.options["kernel_path"], "boot_args": "console=ttyS0"})
        drive = {
            "drive_id": "rootfs",
            "path_on_host": lab.options["image_path"],
            "is_root_device": False,
            "is_read_only": True,
        }
        api.put("/drives/rootfs", drive)
        api.put("/actions", {"action_type": "InstanceStart"})
        return time.monotonic() - began
    finally:
        process.kill()
        process.wait()


def _tasks(lab: FirecrackerLab, count: int) -> list[dict[str, Any]]:
    """The tasks of a play that does everything once a round."""
    tasks: list[dict[str, Any]] = []
    place = {"state_dir": str(lab.root / "state"), "run_dir": str(lab.root / "run")}
    for number in range(count):
        sandbox = {"id": f"fc-{number}", "hypervisor": "firecracker", **place}
        for name, options in (
            ("start", {"state": "started", **lab.options}),
            ("no-op", {"state": "started"}),
            ("pause", {"state": "paused"}),
            ("resume", {"state": "started"}),
            ("remove", {"state": "absent", "stop_timeout": 0}),
        ):
            tasks.append({"name": "ping", "ansible.builtin.ping": {}})
            tasks.append({"name": name, "kata.hypervisor.kata_sandbox": {**sandbox, **options}})
    return tasks
