# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner, from values to values."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.operations import OPERATIONS
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.planner import make_plan
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.states import state_of
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.steps import STEPS, Plan
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, DisruptionError, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities, Observed
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec
from ansible_collections.kata.hypervisor.plugins.module_utils.records.record import PHASES, SandboxRecord

ALL = Capabilities(**{field.name: True for field in dataclasses.fields(Capabilities)})
OFF = Observed()
RUNNING = Observed("running", pid=7, vcpus=1, memory_mb=128)
PAUSED = dataclasses.replace(RUNNING, power="paused")


def record(desired: str = "started", **fields: Any) -> SandboxRecord:
    options = {"kernel_path": "/k", "initrd_path": "/i", **fields.pop("options", {})}
    return SandboxRecord(
        "web", "qemu", options, {"vcpus": 1, "memory_mb": 128, "max_vcpus": 4}, desired=desired, **fields
    )


def plan(known: SandboxRecord | None, seen: Observed, capabilities: Capabilities = ALL, **wish: Any) -> Plan:
    return make_plan(SandboxSpec("web", **wish), known, seen, lambda: capabilities)


def test_a_device_that_the_vmm_has_otherwise_is_set_again() -> None:
    """A task was killed while it changed a limit, or somebody else did; the same wish is a change then."""
    disk = {"id": "d", "type": "block", "file": "/d", "format": "raw", "read_only": False, "discard": False, "index": 0}
    known = record(devices=[disk])
    wish = [{name: value for name, value in disk.items() if name != "index"}]
    seen = Observed("running", pid=7, vcpus=1, memory_mb=128, devices=["d"])
    assert plan(known, seen, devices=wish).actions == []
    other = Observed("running", pid=7, vcpus=1, memory_mb=128, devices=["d"], outdated=["d"])
    assert plan(known, other, devices=wish).actions == ["change block d"]
    assert plan(known, other).actions == []


NEW = {"kernel_path": "/k", "initrd_path": "/i"}


@pytest.mark.parametrize(
    ("known", "seen", "wish", "actions"),
    [
        (None, OFF, {"options": NEW}, ["create", "start"]),
        (None, OFF, {"options": NEW, "state": "present"}, ["create"]),
        (None, OFF, {"options": NEW, "state": "stopped"}, ["create"]),
        (None, OFF, {"options": NEW, "state": "paused"}, ["create", "start", "pause"]),
        (None, OFF, {"options": NEW, "state": "saved"}, ["create", "start", "pause", "save", "stop the VMM"]),
        (None, OFF, {"state": "absent"}, []),
        (None, RUNNING, {"state": "absent"}, ["stop", "remove"]),
        (None, Observed(leftovers=["/x"]), {"state": "absent"}, ["remove"]),
        (None, Observed(leftovers=["/x"]), {"options": NEW}, ["cleanup", "create", "start"]),
        (record(), RUNNING, {}, []),
        (record(), RUNNING, {"state": "present"}, []),
        (record(), RUNNING, {"state": "started"}, []),
        (record(), RUNNING, {"state": "paused"}, ["pause"]),
        (record(), RUNNING, {"state": "stopped"}, ["stop"]),
        (record(), RUNNING, {"state": "saved"}, ["pause", "save", "stop the VMM"]),
        (record(), RUNNING, {"state": "restarted"}, ["stop", "start"]),
        (record(), RUNNING, {"state": "absent"}, ["stop", "remove"]),
        (record("paused"), PAUSED, {}, []),
        (record("paused"), PAUSED, {"state": "started"}, ["resume"]),
        (record("paused"), RUNNING, {}, ["pause"]),
        (record("started"), PAUSED, {}, ["resume"]),
        (record("stopped"), OFF, {}, []),
        (record("stopped"), OFF, {"state": "started"}, ["start"]),
        (record("stopped"), OFF, {"state": "restarted"}, ["start"]),
        (record("stopped"), OFF, {"state": "absent"}, ["remove"]),
        # Crashed, panicked, half-made.
        (record(), OFF, {}, ["cleanup", "start"]),
        (record(), Observed(leftovers=["/x"]), {}, ["cleanup", "start"]),
        (record("stopped"), Observed(leftovers=["/x"]), {}, ["cleanup"]),
        (record(), OFF, {"state": "stopped"}, ["cleanup"]),
        (record(), Observed("failed", pid=7), {}, ["cleanup", "start"]),
        (record("paused"), OFF, {}, ["cleanup", "start", "pause"]),
        (record(phase="starting"), PAUSED, {}, ["cleanup", "start"]),
        (record(phase="starting"), RUNNING, {}, []),
        (record(phase="removing"), OFF, {"state": "absent"}, ["remove"]),
        (record(phase="removing"), OFF, {"options": NEW}, ["finish the removal", "create", "start"]),
        # Saved.
        (record("saved", saved_state="/s"), OFF, {}, []),
        (record("saved", saved_state="/s"), OFF, {"state": "started"}, ["restore", "resume"]),
        (record("saved", saved_state="/s"), OFF, {"state": "paused"}, ["restore"]),
        (record("saved", saved_state="/s"), OFF, {"state": "absent"}, ["remove"]),
        (
            record("saved", saved_state="/s", phase="restoring"),
            PAUSED,
            {"state": "started"},
            ["cleanup", "restore", "resume"],
        ),
        (record("saved", saved_state="/s", phase="saving"), PAUSED, {}, ["stop the VMM"]),
        (record("saved", phase="saving"), PAUSED, {}, ["save", "stop the VMM"]),
        (
            record("saved", saved_state="/s"),
            OFF,
            {"state": "stopped", "disruption": "restart"},
            ["discard the saved state"],
        ),
    ],
)
def test_states(known: SandboxRecord | None, seen: Observed, wish: dict[str, Any], actions: list[str]) -> None:
    made = plan(known, seen, **wish)
    assert made.actions == actions
    assert bool(actions) == (made.before != made.after)


@pytest.mark.parametrize(
    ("seen", "wish", "actions"),
    [
        (RUNNING, {"options": {"vcpus": 3}}, ["resize_vcpus 1 -> 3"]),
        (RUNNING, {"options": {"vcpus": 1}}, []),
        (dataclasses.replace(RUNNING, vcpus=3), {"options": {"vcpus": 1}}, ["resize_vcpus 3 -> 1"]),
        (dataclasses.replace(RUNNING, vcpus=3), {"options": {"vcpus": 3}}, ["set vcpus 1 -> 3"]),
        (dataclasses.replace(RUNNING, vcpus=3), {"state": "paused"}, ["pause"]),
        (RUNNING, {"options": {"memory_mb": 256}}, ["resize_memory 128 -> 256"]),
        (RUNNING, {"options": {"vcpus": 2}, "state": "paused"}, ["resize_vcpus 1 -> 2", "pause"]),
        (PAUSED, {"options": {"vcpus": 2}, "state": "started"}, ["resume", "resize_vcpus 1 -> 2"]),
        (RUNNING, {"options": {"vcpus": 2}, "state": "stopped"}, ["stop", "set vcpus 1 -> 2"]),
        (RUNNING, {"options": {"vcpus": 2}, "state": "restarted"}, ["stop", "set vcpus 1 -> 2", "start"]),
        (
            RUNNING,
            {"options": {"kernel_path": "/n"}, "state": "restarted"},
            ["stop", "set kernel_path /k -> /n", "start"],
        ),
        (OFF, {"options": {"kernel_path": "/n"}, "state": "stopped"}, ["cleanup", "set kernel_path /k -> /n"]),
        (
            RUNNING,
            {"options": {"kernel_path": "/n", "vcpus": 2}, "disruption": "restart"},
            ["stop", "set kernel_path /k -> /n, vcpus 1 -> 2", "start"],
        ),
        (
            PAUSED,
            {"options": {"vcpus": 2}, "state": "paused", "disruption": "restart"},
            ["resume", "resize_vcpus 1 -> 2", "pause"],
        ),
    ],
)
def test_options_of_a_started_sandbox(seen: Observed, wish: dict[str, Any], actions: list[str]) -> None:
    assert plan(record(), seen, **wish).actions == actions


def test_memory_that_the_driver_rounded_up_is_what_was_asked_for() -> None:
    known = record(options={"memory_mb": 300}, memory_reached_mb=384)
    assert plan(known, dataclasses.replace(RUNNING, memory_mb=384), options={"memory_mb": 300}).actions == []
    assert plan(known, dataclasses.replace(RUNNING, memory_mb=512), options={"memory_mb": 300}).actions == [
        "resize_memory 512 -> 300"
    ]


def test_vcpus_that_the_guest_took_offline_count_as_gone() -> None:
    known = record(options={"vcpus": 2})
    seen = dataclasses.replace(RUNNING, vcpus=4, vcpus_online=2)
    assert plan(known, seen, options={"vcpus": 2}).actions == []
    assert plan(known, seen, options={"vcpus": 4}).actions == ["resize_vcpus 2 -> 4"]


def test_capabilities_are_asked_for_only_when_they_matter() -> None:
    def never() -> Capabilities:
        raise AssertionError("asked")

    spec = SandboxSpec("web", state="started", options={"vcpus": 1}, devices=[])
    assert make_plan(spec, record(), RUNNING, never).actions == []


@pytest.mark.parametrize(
    ("known", "seen", "wish", "words"),
    [
        (
            record(),
            RUNNING,
            {"options": {"kernel_path": "/n"}},
            ["kernel_path /k -> /n needs a restart", "disruption=restart"],
        ),
        (
            record(),
            RUNNING,
            {"options": {"kernel_path": "/n", "machine_type": "pc"}},
            ["kernel_path /k -> /n needs", "machine_type none -> pc needs"],
        ),
        (record(), RUNNING, {"hypervisor": "mock"}, ["hypervisor qemu -> mock needs a new VM", "disruption=recreate"]),
        (record("stopped"), OFF, {"hypervisor": "mock", "disruption": "restart"}, ["needs a new VM"]),
        (record("paused"), PAUSED, {"options": {"vcpus": 2}}, ["vcpus 1 -> 2 needs the guest to run"]),
        (record("saved", saved_state="/s"), OFF, {"state": "stopped"}, ["discards its saved state"]),
        (record("saved", saved_state="/s"), OFF, {"state": "restarted"}, ["discards its saved state"]),
        (record("saved", saved_state="/s"), OFF, {"options": {"vcpus": 2}}, ["vcpus 1 -> 2 needs the guest to run"]),
        (
            record("saved", saved_state="/s"),
            OFF,
            {"options": {"kernel_path": "/n"}, "state": "started"},
            ["needs a restart"],
        ),
        (
            record(),
            dataclasses.replace(RUNNING, min_memory_mb=128),
            {"options": {"memory_mb": 64}},
            ["booted with 128"],
        ),
        (
            record("saved", saved_state="/s"),
            Observed(min_memory_mb=128),
            {"options": {"memory_mb": 64}},
            ["booted with 128"],
        ),
    ],
)
def test_what_the_task_does_not_allow(
    known: SandboxRecord, seen: Observed, wish: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(DisruptionError) as caught:
        plan(known, seen, **wish)
    assert all(word in str(caught.value) for word in [*words, "sandbox web", "Option disruption was"])


def test_a_vm_that_cannot_shrink_needs_a_restart() -> None:
    seen = dataclasses.replace(RUNNING, vcpus=3)
    fewer = dataclasses.replace(ALL, vcpu_unplug=False)
    with pytest.raises(DisruptionError, match=r"vcpus 3 -> 1 needs a restart .this VM has no vcpu_unplug"):
        plan(record(), seen, fewer, options={"vcpus": 1})
    assert plan(record(), seen, fewer, options={"vcpus": 4}).actions == ["resize_vcpus 3 -> 4"]


def test_more_than_the_maximum_is_refused_unless_the_maximum_is_raised_too() -> None:
    with pytest.raises(ConfigError, match="exceeds this sandbox's maximum of 4") as caught:
        plan(record(), RUNNING, options={"vcpus": 5})
    assert (caught.value.option, caught.value.wanted) == ("vcpus", 5)
    raised = plan(record(), RUNNING, options={"vcpus": 5, "max_vcpus": 8}, disruption="restart")
    assert raised.actions == ["stop", "set vcpus 1 -> 5, max_vcpus 4 -> 8", "start"]


def test_an_option_the_hypervisor_lacks_is_refused() -> None:
    with pytest.raises(Unsupported, match="qemu hypervisor does not support jailer_path"):
        plan(None, OFF, options={**NEW, "jailer_path": "/j"})
    assert plan(None, OFF, options={**NEW, "jailer_path": ""}).actions == ["create", "start"]


def test_recorded_options_the_new_hypervisor_lacks_are_refused() -> None:
    known = dataclasses.replace(record("stopped", options={"jailer_path": "/j"}), hypervisor="mock")
    with pytest.raises(Unsupported, match="does not support jailer_path"):
        plan(known, OFF, hypervisor="qemu", disruption="recreate")


NET = {"id": "eth0", "type": "net", "kind": "user", "queues": 1, "vhost": False}
DISK = {"id": "data0", "type": "block", "file": "/d", "format": "raw"}


@pytest.mark.parametrize(
    ("recorded", "plugged", "listed", "actions"),
    [
        ([], [], [NET, DISK], ["plug net eth0", "plug block data0"]),
        ([NET], ["eth0"], [], ["unplug net eth0"]),
        ([NET], ["eth0"], [NET], []),
        ([NET], ["eth0"], None, []),
        ([NET], [], None, []),
        ([NET], [], [NET], ["plug net eth0"]),
        ([NET], [], [], ["forget net eth0"]),
        ([DISK], ["data0"], [{**DISK, "file": "/e"}], ["change block data0"]),
        ([DISK], ["data0"], [{**DISK, "file": "/e", "format": "qcow2"}], ["unplug block data0", "plug block data0"]),
        ([], ["internal"], [], []),
    ],
)
def test_devices(recorded: list[Any], plugged: list[str], listed: list[Any] | None, actions: list[str]) -> None:
    seen = dataclasses.replace(RUNNING, devices=plugged)
    made = plan(record(devices=recorded), seen, devices=listed)
    assert made.actions == actions
    assert bool(actions) == (made.before != made.after)


def test_a_device_that_cannot_be_plugged_needs_a_restart() -> None:
    with pytest.raises(DisruptionError, match=r"block data0 needs a restart .this VM cannot plug"):
        plan(record(), RUNNING, Capabilities(), devices=[DISK])
    made = plan(record(), RUNNING, Capabilities(), devices=[DISK], disruption="restart")
    assert made.actions == ["stop", "set devices none -> block data0", "start"]


def test_block_devices_keep_their_place() -> None:
    known = record(devices=[{**DISK, "index": 0}, {**DISK, "id": "b", "index": 1}])
    seen = dataclasses.replace(RUNNING, devices=["data0", "b"])
    made = plan(known, seen, devices=[{**DISK, "id": "b"}, {**DISK, "id": "c"}])
    assert [(device["id"], device["index"]) for device in made.devices] == [("b", 1), ("c", 0)]


@pytest.mark.parametrize(
    ("known", "seen", "state"),
    [
        (None, OFF, "absent"),
        (None, RUNNING, "incomplete"),
        (record("stopped"), OFF, "stopped"),
        (record(), OFF, "crashed"),
        (record("paused"), OFF, "crashed"),
        (record("saved"), OFF, "crashed"),
        (record("saved", saved_state="/s"), OFF, "saved"),
        (record(), RUNNING, "started"),
        (record(), PAUSED, "paused"),
        (record(), Observed("failed"), "failed"),
        (record(phase="starting"), OFF, "incomplete"),
        (record(phase="removing"), OFF, "incomplete"),
    ],
)
def test_states_for_people(known: SandboxRecord | None, seen: Observed, state: str) -> None:
    assert state_of(known, seen) == state


def test_every_step_has_a_phase_and_an_operation() -> None:
    assert set(OPERATIONS) == set(STEPS)
    for kind in STEPS.values():
        assert kind.phase in PHASES
        assert not kind.needs or kind.needs in Capabilities.__dataclass_fields__
