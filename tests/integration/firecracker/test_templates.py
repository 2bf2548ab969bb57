# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates and clones on Firecracker: one snapshot, loaded many times, each time with taps and sockets of its own; and diff snapshots of clones."""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
from typing import Any, Callable

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import converge_template
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, StateError, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.host import network, sparse_files
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import cloning
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.vmm import Vmm
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_template_spec
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.net import NetworkDevice
from tests.support.firecracker_lab import FirecrackerLab
from tests.support.lab import nothing_ran
from tests.support.stand_ins import double_only, needs_root, needs_tun

NET = {"id": "eth0", "type": "net", "kind": "tap"}
VSOCK = {"id": "vs", "type": "vsock", "cid": 7}
BOOTED = "console: stub: running|guest: ready"


def template(lab: FirecrackerLab, **options: Any) -> dict[str, Any]:
    """Make a template, or remove it."""
    paths = {"state_dir": str(lab.root / "state"), "run_dir": str(lab.root / "run")}
    wish = {"id": "base", "hypervisor": "firecracker", "wait_for": BOOTED, **lab.options, **paths, **options}
    return converge_template(parse_template_spec(wish))


def remove(lab: FirecrackerLab) -> None:
    """Remove the template, and look for leftovers of it."""
    paths = {"state_dir": str(lab.root / "state"), "run_dir": str(lab.root / "run")}
    converge_template(parse_template_spec({"id": "base", "state": "absent", "force": True, **paths}))
    assert not (lab.root / "state/templates/base").exists()


def clone(lab: FirecrackerLab, sandbox: str, **options: Any) -> dict[str, Any]:
    """A sandbox that begins from the template."""
    return lab.run(sandbox, state="started", template="base", **options)


def config_of(lab: FirecrackerLab, sandbox: str) -> dict[str, Any]:
    machine = lab.driver(sandbox).vmm
    return machine.config(machine.api())


@needs_root
@needs_tun
def test_clones_have_taps_and_sockets_of_their_own(lab: FirecrackerLab) -> None:
    made = template(lab, devices=[NET, VSOCK, {"id": "mem", "type": "balloon", "size_mb": 8}], vmm_metrics=True)
    assert made["actions"][-3:] == ["pause", "save", "stop the VMM"] and made["template"]["state"] == "ready"
    assert not template(lab, devices=[NET, VSOCK, {"id": "mem", "type": "balloon", "size_mb": 8}], vmm_metrics=True)[
        "changed"
    ]
    memory = pathlib.Path(made["template"]["memory_path"])
    before = memory.stat()
    assert stat.S_IMODE(before.st_mode) == 0o444 and stat.S_IMODE(memory.parent.stat().st_mode) == 0o700
    macs, sockets = set(), set()
    for sandbox in ("one", "two"):
        facts = clone(lab, sandbox)["sandbox"]
        assert (facts["state"], facts["vcpus"], facts["memory_mb"]) == ("started", 1, 128)
        found = config_of(lab, sandbox)
        (interface,) = found["network-interfaces"]
        assert interface["host_dev_name"] == network.tap_name(
            lab.spec(sandbox).layout().host_name, "eth0"
        ) and network.exists(interface["host_dev_name"])
        macs.add(interface["guest_mac"])
        root = lab.driver(sandbox).vmm.state.jail
        socket = root.path(found["vsock"]["uds_path"].lstrip("/")) if root else found["vsock"]["uds_path"]
        assert stat.S_ISSOCK(os.stat(socket).st_mode)
        sockets.add(socket)
        assert found["balloon"]["amount_mib"] == 8 and facts["metrics_log"]
    # The guest knows one address; the host's ends differ.
    assert len(macs) == 1 and len(sockets) == 2
    after = memory.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    assert not clone(lab, "one")["changed"]
    with pytest.raises(StateError, match="no clone of this template may run, but these do: one, two"):
        paths = {"state_dir": str(lab.root / "state"), "run_dir": str(lab.root / "run")}
        converge_template(parse_template_spec({"id": "base", "state": "absent", **paths}))
    # What a clone has from its template is there again after a save too, without the template.
    remove(lab)
    lab.run("one", state="saved")
    lab.run("one", state="started")
    assert config_of(lab, "one")["network-interfaces"][0]["host_dev_name"] == network.tap_name(
        lab.spec("one").layout().host_name, "eth0"
    )
    lab.run("two", state="stopped", stop_timeout=0)
    assert not network.exists(network.tap_name(lab.spec("two").layout().host_name, "eth0"))


@needs_root
@needs_tun
def test_a_clone_may_say_what_its_devices_are_called_on_the_host(lab: FirecrackerLab) -> None:
    metadata = {"id": "facts", "type": "mmds", "interfaces": ["eth0"], "contents": {"name": "base"}}
    template(lab, devices=[NET, metadata])
    own = [{**NET, "tap_name": "kttap7", "rx_rate_limit": {"ops": 9}}, {**metadata, "contents": {"name": "web"}}]
    facts = clone(lab, "web", devices=own)["sandbox"]
    assert [device["plugged"] for device in facts["devices"]] == [True, True]
    (interface,) = config_of(lab, "web")["network-interfaces"]
    assert interface["host_dev_name"] == "kttap7" and interface["rx_rate_limiter"]["ops"]["size"] == 9
    assert lab.driver("web").vmm.api().get("/mmds") == {"name": "web"}
    for wrong, words in (
        ({"mac": "02:00:00:00:00:01"}, "has mac"),
        ({"type": "vsock", "kind": None, "cid": 3}, "is a NetworkDevice"),
    ):
        with pytest.raises(ConfigError, match=words):
            clone(lab, "other", devices=[{**NET, **wrong}])
    remove(lab)


def test_a_clone_gets_more_devices_plugged_in(lab: FirecrackerLab) -> None:
    template(lab, enable_pci=True)
    disk = {"id": "data", "type": "block", "file": lab.file("data")}
    assert clone(lab, "web", devices=[disk])["sandbox"]["devices"][0]["plugged"]
    lab.run("web", devices=[])
    assert config_of(lab, "web")["drives"][0]["drive_id"] == "rootfs" and len(config_of(lab, "web")["drives"]) == 1
    remove(lab)


def test_what_a_clone_cannot_have_is_refused_by_name(plain: FirecrackerLab) -> None:
    template(plain)
    plain.file("other-kernel", content=b"another")
    for options, kind, option in (
        ({"vcpus": 2}, Unsupported, "vcpus"),
        ({"memory_mb": 256}, Unsupported, "memory_mb"),
        ({"kernel_path": plain.file("other-kernel")}, ConfigError, "kernel_path"),
        ({"smt": True}, ConfigError, "smt"),
        ({"devices": [{"id": "d", "type": "block", "file": plain.file("d")}]}, Unsupported, "devices"),
    ):
        with pytest.raises(kind) as caught:
            clone(plain, "web", **options)
        assert caught.value.option == option
        nothing_ran(plain)
    remove(plain)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"huge_pages": True}, "huge_pages"),
        ({"placeholder_drives": 1}, "placeholder_drives"),
        ({"devices": [{"id": "d", "type": "block", "file": "FILE"}]}, "devices"),
    ],
)
def test_what_cannot_be_a_template_is_refused_by_name(
    plain: FirecrackerLab, options: dict[str, Any], option: str
) -> None:
    devices = [
        {**device, **({"file": plain.file("d")} if "file" in device else {})} for device in options.get("devices", [])
    ]
    with pytest.raises(Unsupported) as caught:
        template(plain, **{**options, **({"devices": devices} if devices else {})})
    assert caught.value.option == option
    assert not (plain.root / "state/templates/base").exists() and plain.processes() == []


def test_clones_do_not_share_a_bridge(plain: FirecrackerLab) -> None:
    machine = Vmm(Context("base", str(plain.root), str(plain.root)))
    with pytest.raises(Unsupported, match="the same MAC address"):
        cloning.checked_device(
            machine, HypervisorConfig(boot_to_be_template=True), None, NetworkDevice("tap", "eth0", bridge="br0")
        )


@double_only
def test_another_version_or_place_does_not_get_the_template(
    plain: FirecrackerLab, version: Callable[[str], None]
) -> None:
    template(plain)
    version("1.15.1")
    with pytest.raises(StateError, match=r"made by Firecracker 1\.16\.1, and this is 1\.15\.1"):
        clone(plain, "web")
    # The same task that made it makes it anew.
    assert template(plain)["changed"]
    assert clone(plain, "web")["sandbox"]["state"] == "started"
    remove(plain)


@double_only
@needs_root
@needs_tun
@pytest.mark.parametrize(("number", "device", "since"), [("1.11.0", NET, "1.12"), ("1.15.1", VSOCK, "1.16")])
def test_overrides_that_a_version_lacks_are_refused(
    plain: FirecrackerLab, version: Callable[[str], None], number: str, device: dict[str, Any], since: str
) -> None:
    version(number)
    template(plain, devices=[device])
    with pytest.raises(Unsupported, match="has no option to give") as caught:
        clone(plain, "web")
    assert caught.value.fix == f"Use Firecracker {since} or later."
    nothing_ran(plain)
    remove(plain)


@double_only
@needs_root
def test_in_a_jail_a_socket_needs_no_override(jailed: FirecrackerLab, version: Callable[[str], None]) -> None:
    version("1.15.1")
    template(jailed, devices=[VSOCK])
    assert clone(jailed, "web")["sandbox"]["state"] == "started"
    remove(jailed)


@needs_root
def test_a_template_and_a_sandbox_of_one_name_leave_each_other_alone(jailed: FirecrackerLab) -> None:
    pid = jailed.start("base")["sandbox"]["pid"]
    template(jailed)
    assert jailed.facts("base")["pid"] == pid
    remove(jailed)
    assert jailed.facts("base")["pid"] == pid


@needs_root
def test_a_template_on_another_file_system_is_shared_all_the_same(jailed: FirecrackerLab) -> None:
    """Bind-mounted into the jail for the time of the load, and not copied."""
    directory = pathlib.Path("/dev/shm") / jailed.root.name
    directory.mkdir(mode=0o700)
    try:
        template(jailed, memory_dir=str(directory))
        facts = clone(jailed, "web")["sandbox"]
        memory = directory / "base" / "memory"
        assert any(
            str(memory.stat().st_ino) in line.split()
            for line in pathlib.Path(f"/proc/{facts['pid']}/maps").read_text().splitlines()
        )
        assert str(memory) not in pathlib.Path("/proc/self/mountinfo").read_text()
        remove(jailed)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


# --- diff snapshots ----------------------------------------------------------------------------------------------------


def test_of_a_clone_only_what_is_different_is_saved(lab: FirecrackerLab) -> None:
    template(lab)
    clone(lab, "web", track_dirty_pages=True)
    lab.run("web", state="saved")
    saved = lab.root / "state/sandboxes/web/saved"
    assert sorted(path.name for path in saved.iterdir()) == ["base", "memory", "vm.json", "vmstate"]
    assert (saved / "memory").stat().st_size == 128 << 20 and (saved / "memory").stat().st_blocks * 512 < 8 << 20
    # It needs its template no more.
    remove(lab)
    assert lab.run("web", state="started")["sandbox"]["state"] == "started"
    assert lab.driver("web").vmm.state.base == []
    # What it began from is gone: the next time all of it is saved.
    lab.run("web", state="saved")
    assert not (saved / "base").exists()
    assert lab.run("web", state="started")["sandbox"]["state"] == "started"


def test_without_account_of_its_pages_all_of_a_clone_is_saved(plain: FirecrackerLab) -> None:
    template(plain)
    clone(plain, "web")
    plain.run("web", state="saved")
    assert not (plain.root / "state/sandboxes/web/saved/base").exists()
    assert plain.run("web", state="started")["sandbox"]["state"] == "started"
    remove(plain)


def test_a_difference_is_laid_over_its_base(tmp_path: pathlib.Path) -> None:
    base, difference, target = (tmp_path / name for name in ("base", "difference", "target"))
    base.write_bytes(b"a" * 3 * 65536)
    with open(difference, "wb") as stream:
        stream.truncate(3 * 65536)
        stream.seek(65536)
        stream.write(bytes(4096) + b"b" * 4096)
    assert not sparse_files.is_full(str(difference)) and sparse_files.is_full(str(base))
    sparse_files.lay_over(str(base), str(difference), str(target))
    expected = bytearray(base.read_bytes())
    expected[65536 : 65536 + 8192] = bytes(4096) + b"b" * 4096
    assert target.read_bytes() == expected and base.read_bytes() == b"a" * 3 * 65536
