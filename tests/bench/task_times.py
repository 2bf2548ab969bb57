# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks on one sandbox of QEMU, as a user waits for them, beside `ping` and what QEMU and its guest take of them."""

from __future__ import annotations

import pathlib
import shutil
import statistics
import tempfile
import time
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import converge_template
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_spec, parse_template_spec
from tests.bench.playing import play
from tests.bench.rows import Row
from tests.bench.vmm_waits import wait_seconds
from tests.support.guest_assets import Assets, guest_assets
from tests.support.loopback_sshd import loopback_sshd

TITLE = "Tasks on one sandbox of QEMU"
MEMORY_MB = 128
NO_OP = "no-op on a running sandbox"
START, CLONE = "start to running", "clone to running"
ANSWER = "clone to its agent's first answer"
RESEEDED = "clone to running, reseeded by its agent"
TEMPLATE, AGENT_TEMPLATE = "bench-template", "bench-agent-template"
#: What a task may take beside `ping` and QEMU, seconds.
OURS = 0.015
#: About what Ansible takes between two tasks, seconds. A guest goes on with what it was given: it takes memory later while it starts its new vCPUs.
PAUSE = 0.2
PING = {"name": "ping", "ansible.builtin.ping": {}}


def rows(rounds: int) -> list[Row]:
    """Measure."""
    assets = guest_assets()
    work = pathlib.Path(tempfile.mkdtemp(prefix="kb-"))
    directories = {"state_dir": str(work / "state"), "run_dir": str(work / "run")}
    templates = {
        TEMPLATE: {**boot(assets), "wait_for": READY},
        AGENT_TEMPLATE: {**boot(assets, True), "wait_for": AGENT},
    }
    try:
        for name, options in templates.items():
            converge_template(parse_template_spec({"id": name, **directories, **options}))
        qemu = qemu_times(rounds // 2, directories, assets)
        times = play(work, tasks(rounds, directories, assets))
        for name, seconds in qemu_times(rounds - rounds // 2, directories, assets).items():
            qemu.setdefault(name, []).extend(seconds)
        over_ssh = ssh_times(work, rounds, directories, assets)
    finally:
        for name in templates:
            converge_template(parse_template_spec({"id": name, **directories, "state": "absent", "force": True}))
        shutil.rmtree(work, ignore_errors=True)
    ping = statistics.median(times["ping"])
    took = {name: statistics.median(seconds) for name, seconds in qemu.items()}
    found = [
        Row(NO_OP, times[NO_OP], times["ping"], "ping", 1.10),
        Row(f"{NO_OP}, ssh and pipelining", over_ssh[NO_OP], over_ssh["ping"], "ping", 1.10),
        Row("QEMU alone, start to QMP", qemu[START]),
        Row(START, times[START], [ping + 1.5 * took[START]], "ping + 1.5 x QEMU's own start", 1.0),
        Row("QEMU alone, clone to running", qemu[CLONE]),
        Row(CLONE, times[CLONE], [ping + 1.3 * took[CLONE]], "ping + 1.3 x QEMU's own clone", 1.0),
        Row(RESEEDED, times[RESEEDED], times["ping"], "ping"),
        Row(ANSWER, times[ANSWER], times["ping"], "ping"),
    ]
    for name in STEPS:
        found.append(Row(name, times[name], [ping + took[name] + OURS], "ping + QEMU and its guest + 15 ms", 1.0))
    return [*found, Row("remove", times["remove"], times["ping"], "ping")]


#: What is done with a running sandbox, in this order.
STEPS: dict[str, dict[str, Any]] = {
    "pause": {"state": "paused"},
    "resume": {"state": "started"},
    "vCPUs 1 to 3": {"vcpus": 3},
    "memory 128 to 512 MiB": {"memory_mb": 512},
    "memory 512 to 256 MiB": {"memory_mb": 256},
    "stop": {"state": "stopped", "stop_timeout": 0},
}
READY = {"console": "ready", "timeout": 600}
AGENT = {"agent": True, "timeout": 600}


def boot(assets: Assets, agent: bool = False) -> dict[str, Any]:
    """The options of a new sandbox."""
    return {
        "kernel_path": str(assets.kernel),
        "initrd_path": str(assets.agent_initrd if agent else assets.initrd),
        "memory_mb": MEMORY_MB,
        "max_memory_mb": 1024,
        "max_vcpus": 4,
        "accelerator": "tcg",
    }


def tasks(count: int, directories: dict[str, str], assets: Assets) -> list[dict[str, Any]]:
    """The tasks of a play that does everything once a round, each round with sandboxes of its own."""
    # The first task installs the copy of the collection.
    first = {"id": "none", **directories, "state": "absent"}
    found: list[dict[str, Any]] = [{"name": "first", "kata.hypervisor.kata_sandbox": first}]
    for number in range(count):
        for name, options in steps_of_a_round(f"bench-{number}", directories, assets):
            if name in (START, NO_OP, CLONE):
                found.append(PING)
            found.append({"name": name, "kata.hypervisor.kata_sandbox": options})
    return found


def steps_of_a_round(identity: str, directories: dict[str, str], assets: Assets) -> list[tuple[str, dict[str, Any]]]:
    """Names and options of the tasks of one round."""
    sandbox, clone = {"id": identity, **directories}, {"id": f"{identity}-clone", **directories}
    last = list(STEPS)[-1]
    return [
        (START, {**sandbox, **boot(assets), "state": "started"}),
        (NO_OP, {**sandbox, "state": "started"}),
        ("wait for the guest", {**sandbox, "wait_for": READY}),
        *((name, {**sandbox, **options}) for name, options in STEPS.items() if name != last),
        (NO_OP, {**sandbox, "state": "started"}),
        (last, {**sandbox, **STEPS[last]}),
        ("remove", {**sandbox, "state": "absent"}),
        (CLONE, {**clone, "template": TEMPLATE}),
        ("remove the clone", {**clone, "state": "absent", "stop_timeout": 0}),
        (RESEEDED, {**clone, "template": AGENT_TEMPLATE}),
        ("remove the clone", {**clone, "state": "absent", "stop_timeout": 0}),
        (ANSWER, {**clone, "template": AGENT_TEMPLATE, "wait_for": AGENT}),
        ("remove the clone", {**clone, "state": "absent", "stop_timeout": 0}),
    ]


def qemu_times(count: int, directories: dict[str, str], assets: Assets) -> dict[str, list[float]]:
    """Seconds that QEMU and its guest take of each task."""
    found: dict[str, list[float]] = {}
    for _round in range(count):
        for name, options in steps_of_a_round("alone", directories, assets):
            found.setdefault(name, []).append(wait_seconds(options))
            time.sleep(PAUSE)
    return found


def ssh_times(work: pathlib.Path, count: int, directories: dict[str, str], assets: Assets) -> dict[str, list[float]]:
    """Seconds of a task that changes nothing, and of `ping`, over ssh with pipelining."""
    sandbox = {"id": "ssh", **directories}
    converge(parse_spec({**sandbox, **boot(assets), "state": "started"}))
    (work / "sshd").mkdir()
    try:
        with loopback_sshd(work / "sshd") as sshd:
            one = {"name": NO_OP, "kata.hypervisor.kata_sandbox": {**sandbox, "state": "started"}}
            variables = {**sshd.variables(), "ansible_control_path_dir": str(work / "cp"), "ansible_pipelining": True}
            # The first of each opens the connection, or installs the copy.
            found = play(work, [PING, one] * (count + 1), variables)
    finally:
        converge(parse_spec({**sandbox, "state": "absent", "stop_timeout": 0}))
    return {name: seconds[1:] for name, seconds in found.items()}
