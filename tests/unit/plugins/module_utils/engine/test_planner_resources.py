# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner does with root disks, devices that follow from options, and secrets."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.planner import make_plan
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.steps import Plan
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, DisruptionError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities, Observed
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec
from ansible_collections.kata.hypervisor.plugins.module_utils.records.record import SandboxRecord

ALL = Capabilities(**{field.name: True for field in dataclasses.fields(Capabilities)})
NONE = Capabilities()
OFF = Observed()
BOOT = {"kernel_path": "/k", "image_path": "/image"}
INTERFACE = {"id": "network", "type": "net", "kind": "tap", "bridge": "br", "queues": 1, "vhost": False}


def derived(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An interface for the option `network`, as `SandboxResources.devices` makes it."""
    return [{**INTERFACE, "source": "network"}] if options.get("network") else []


def record(**options: Any) -> SandboxRecord:
    devices = [{**INTERFACE, "source": "network"}] if options.get("network") else []
    return SandboxRecord(
        "web", "qemu", {**BOOT, **options}, {"vcpus": 1, "memory_mb": 128}, devices=devices, desired="started"
    )


def running(known: SandboxRecord) -> Observed:
    return Observed("running", pid=7, vcpus=1, memory_mb=128, devices=[device["id"] for device in known.devices])


def plan(known: SandboxRecord | None, seen: Observed = OFF, capabilities: Capabilities = ALL, **request: Any) -> Plan:
    return make_plan(SandboxSpec("web", **request), known, seen, lambda: capabilities, None, derived)


# --- the root disk -----------------------------------------------------------------------------------------------------


def test_a_root_disk_grows_while_the_vm_runs() -> None:
    known = record(root_disk_mb=1000)
    assert plan(known, running(known), options={"root_disk_mb": 2000}).actions == [
        "grow the root disk 1000 -> 2000 MiB"
    ]


def test_a_vmm_that_cannot_resize_a_disk_needs_a_restart() -> None:
    known = record(root_disk_mb=1000)
    with pytest.raises(DisruptionError, match="root_disk_mb 1000 -> 2000 needs a restart"):
        plan(known, running(known), NONE, options={"root_disk_mb": 2000})
    restarted = plan(known, running(known), NONE, options={"root_disk_mb": 2000}, disruption="restart")
    assert restarted.actions == ["stop", "set root_disk_mb 1000 -> 2000", "start"]


def test_a_root_disk_is_never_shrunk() -> None:
    known = record(root_disk_mb=1000)
    for disruption in ("none", "recreate"):
        with pytest.raises(ConfigError, match="must be at least 1000, since a disk is never shrunk"):
            plan(known, running(known), options={"root_disk_mb": 999}, disruption=disruption)


@pytest.mark.parametrize(
    "options", [{"root_disk_mb": 0}, {"image_path": "/other"}], ids=["no disk any more", "another image"]
)
def test_the_content_of_a_root_disk_is_lost_only_with_consent(options: dict[str, Any]) -> None:
    known = record(root_disk_mb=1000)
    with pytest.raises(DisruptionError, match=r"needs a new VM \(.*content"):
        plan(known, running(known), options=options, disruption="restart")
    assert plan(known, running(known), options=options, disruption="recreate").has("recreate")


def test_another_image_without_a_root_disk_needs_a_restart_only() -> None:
    known = record()
    assert plan(known, running(known), options={"image_path": "/other"}, disruption="restart").has("start")


def test_another_hypervisor_says_that_the_root_disk_is_lost() -> None:
    known = record(root_disk_mb=1000)
    with pytest.raises(DisruptionError, match="its root disk is made again, and the content is lost"):
        plan(known, running(known), hypervisor="firecracker", options={})


# --- devices that follow from options -------------------------------------------------------------------------------------


def test_a_new_sandbox_has_the_devices_that_follow_from_its_options() -> None:
    disk = {"id": "data", "type": "block", "file": "/d", "format": "raw", "read_only": False, "discard": False}
    made = plan(None, options={**BOOT, "network": "default"}, devices=[disk])
    assert [device["id"] for device in made.devices] == ["data", "network"]


def test_a_list_of_devices_keeps_those_that_follow_from_options() -> None:
    known = record(network="default")
    assert plan(known, running(known), devices=[]).actions == []


def test_a_task_without_these_options_keeps_their_devices() -> None:
    known = record(network="default")
    assert plan(known, running(known)).actions == []
    assert plan(known, running(known), state="paused").actions == ["pause"]


def test_a_network_that_is_given_up_needs_a_restart() -> None:
    known = record(network="default")
    with pytest.raises(DisruptionError, match="network default -> none needs a restart"):
        plan(known, running(known), options={"network": ""})
    made = plan(known, running(known), options={"network": ""}, disruption="restart")
    assert made.devices == []
    assert made.has("start")


def test_a_missing_device_of_an_option_is_plugged_again() -> None:
    known = record(network="default")
    seen = dataclasses.replace(running(known), devices=[])
    assert plan(known, seen, options={"network": "default"}).actions == ["plug net network"]


@pytest.mark.parametrize(
    "request_",
    [{"devices": [INTERFACE]}, {"device_changes": {"network": None}}, {"device_changes": {"network": INTERFACE}}],
)
def test_the_ids_of_these_devices_belong_to_the_options(request_: dict[str, Any]) -> None:
    known = record(network="default")
    with pytest.raises(ConfigError, match="the id network belongs to the device of the option network"):
        plan(known, running(known), **request_)


def test_published_ports_change_while_the_vm_runs() -> None:
    known = record(network="default", ports=["8080:80"])
    assert plan(known, running(known), options={"ports": ["8081:80"]}).actions == ["set ports 8080:80 -> 8081:80"]


# --- secrets -------------------------------------------------------------------------------------------------------------


def test_user_data_is_in_no_text_of_a_plan() -> None:
    known = record(user_data="#!/bin/sh\necho first-secret\n")
    request: dict[str, Any] = {"options": {"user_data": "#!/bin/sh\necho other-secret\n"}}
    with pytest.raises(DisruptionError) as refused:
        plan(known, running(known), **request)
    made = plan(known, running(known), disruption="restart", **request)
    created = plan(None, options={**BOOT, "user_data": "#!/bin/sh\necho other-secret\n"})
    texts = f"{refused.value} {made.before} {made.after} {made.actions} {created.after} {created.actions}"
    assert "secret" not in texts
    # A change is visible all the same.
    assert made.before["user_data"] != made.after["user_data"]
