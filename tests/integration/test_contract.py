# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every driver promises, through the engine: the mock, real QEMU, Firecracker (plain and jailed) and ACRN.

Firecracker and ACRN are stand-ins unless KATA_TEST_FIRECRACKER and KATA_TEST_JAILER name real ones.
"""

from __future__ import annotations

import concurrent.futures
import inspect
import os
import shutil
import signal
import stat
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError, StateError, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import HYPERVISORS
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn import start
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds import KIND_OF
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.balloon import Balloon
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.base import Device, device_id
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.block import BlockDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.entropy import EntropyDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.fs import Volume
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.mmds import MetadataService
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.net import NetworkDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.pmem import PmemDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.serial import SerialPort
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vfio import VfioDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vhost_user import VhostUserDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vsock import Vsock
from ansible_collections.kata.hypervisor.plugins.module_utils.options.devices import CpuDevice, MemoryDevice
from tests.support.acrn_lab import AcrnLab
from tests.support.firecracker_lab import FirecrackerLab
from tests.support.lab import SandboxLab, removed_afterwards
from tests.support.stand_ins import IS_ROOT
from tests.support.waiting import wait_until

KINDS = ("mock", "qemu", "firecracker", "jailed", "acrn")


def test_every_driver_is_here() -> None:
    assert set(KINDS) - {"jailed"} == set(HYPERVISORS)


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxLab]:
    """Sandboxes of one kind."""
    if request.param == "jailed" and not IS_ROOT:
        pytest.skip("only root can make a jail")
    if request.param == "qemu" and shutil.which("qemu-system-x86_64") is None:
        pytest.skip("there is no qemu-system-x86_64 on this host")
    if request.param == "mock":
        made: SandboxLab = SandboxLab("mock", kernel_path="/k", initrd_path="/i", memory_mb=128, vcpus=1)
    elif request.param == "qemu":
        assets = request.getfixturevalue("assets")
        made = SandboxLab(
            "qemu",
            kernel_path=str(assets.kernel),
            initrd_path=str(assets.initrd),
            accelerator="tcg",
            memory_mb=192,
            vcpus=1,
            max_vcpus=2,
        )
    elif request.param == "acrn":
        monkeypatch.setattr(start, "HSM_DEVICES", ("/dev/null",))
        monkeypatch.setenv("ACRN_DOUBLE_MANAGER", "")
        made = AcrnLab()
    else:
        made = FirecrackerLab(jailed=request.param == "jailed")
    with removed_afterwards(made):
        yield made


def end(lab: SandboxLab, sandbox: str = "web") -> None:
    """End a VMM as an accident would."""
    driver = lab.driver(sandbox)
    if lab.hypervisor == "mock":
        driver.crash()  # type: ignore[attr-defined]
        return
    pid = driver.pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not driver.pid(), "the end of the VMM")


def can(lab: SandboxLab, capability: str) -> bool:
    return bool(lab.facts()["capabilities"][capability])


def test_from_nothing_to_nothing(lab: SandboxLab) -> None:
    foretold = lab.check(state="started", **lab.options)
    made = lab.start()
    assert made["changed"] and made["actions"] == foretold["actions"]
    assert (made["sandbox"]["state"], made["sandbox"]["vcpus"], made["sandbox"]["leftovers"]) == ("started", 1, [])
    again = lab.start()
    assert (again["changed"], again["actions"], again["sandbox"]["pid"]) == (False, [], made["sandbox"]["pid"])
    stopped = lab.run(state="stopped", stop_timeout=0)
    assert stopped["changed"] and stopped["sandbox"]["state"] == "stopped" and lab.processes() == []
    assert not lab.run(state="stopped")["changed"]
    assert lab.run(state="started")["sandbox"]["state"] == "started"
    lab.run(state="absent", stop_timeout=0)
    assert not lab.run(state="absent")["changed"]


def test_pause_twice_and_resume_twice(lab: SandboxLab) -> None:
    lab.start()
    if not can(lab, "pause"):
        for run in (lab.check, lab.run):
            with pytest.raises(Unsupported, match="cannot do pause"):
                run(state="paused")
        assert lab.facts()["state"] == "started"
        with pytest.raises(Unsupported):
            lab.start("other", state="paused")
        assert lab.facts("other")["state"] == "absent"
        return
    assert [lab.run(state="paused")["actions"] for _time in range(2)] == [["pause"], []]
    driver = lab.driver()
    driver.pause_sandbox()  # The operation itself is idempotent too.
    assert driver.observe().power == "paused"
    driver.disconnect()  # QEMU serves one controller at a time.
    assert [lab.run(state="started")["actions"] for _time in range(2)] == [["resume"], []]
    driver.resume_sandbox()
    assert driver.observe().power == "running"
    driver.disconnect()


def test_a_vmm_that_was_killed_is_noticed_and_replaced(lab: SandboxLab) -> None:
    first = lab.start()["sandbox"]["pid"]
    end(lab)
    gone = lab.facts()
    assert gone["state"] == "crashed" and "gone" in gone["reason"]
    repaired = lab.run()
    assert repaired["changed"] and repaired["sandbox"]["state"] == "started"
    assert lab.hypervisor == "mock" or repaired["sandbox"]["pid"] != first
    assert not lab.run()["changed"]


def test_a_killed_vmm_can_be_stopped_and_removed(lab: SandboxLab) -> None:
    lab.start()
    end(lab)
    assert lab.run(state="stopped")["sandbox"]["state"] == "stopped"
    assert not lab.run(state="stopped")["changed"]


def test_stale_files_are_no_hindrance(lab: SandboxLab) -> None:
    lab.run(state="present", **lab.options)
    lab.run_path("").mkdir(parents=True, exist_ok=True)
    for name in ("api.sock", "console.sock", "qmp.sock", "monitor.sock", "pid", "console.log", "vmm.log"):
        lab.run_path(name).write_text("stale")
    assert lab.run(state="started")["sandbox"]["state"] == "started"


def test_a_restart_that_cannot_be_is_refused_before_the_vm_is_stopped(lab: SandboxLab) -> None:
    lab.start()
    pid = lab.facts()["pid"]
    if lab.hypervisor == "mock":
        pytest.skip("the mock takes every device")
    good = {"id": "good", "type": "block", "file": lab.file("good", 2 << 20)}
    bad: list[dict[str, Any]] = [
        {"id": "gone", "type": "block", "file": str(lab.root / "gone")},
        {"id": "eth0", "type": "net", "kind": "tap", "bridge": "nobridge0"},
        {"id": "share", "type": "fs", "tag": "t", "path": str(lab.root / "gone")},
        {"id": "pmem", "type": "pmem", "file": str(lab.root / "gone")},
        {"id": "twice", "type": "block", "file": good["file"]},
    ]
    wishes: list[dict[str, Any]] = [{"devices": [good, device]} for device in bad]
    wishes += [
        {"kernel_path": str(lab.root / "gone")},
        {"memory_mb": 1 << 26},
        {"huge_pages": True, "memory_mb": 1 << 19},
    ]
    for wish in wishes:
        texts = []
        for run in (lab.check, lab.run):
            for state in ("started", "restarted"):
                with pytest.raises(HypervisorError) as caught:
                    run(state=state, disruption="restart", **wish)
                assert caught.value.sandbox == "web"
                texts.append(str(caught.value))
        assert len(set(texts)) == 1, texts
        seen = lab.facts()
        assert (seen["state"], seen["pid"], seen["devices"]) == ("started", pid, []), wish


def test_a_disk_of_the_hosts_is_not_given_to_a_guest(lab: SandboxLab) -> None:
    """By no name of it (CVE-2026-24054)."""
    if lab.hypervisor == "mock":
        pytest.skip("the mock takes every device")
    root = os.stat("/").st_dev
    disk = next(
        (
            path
            for path in (f"/dev/block/{os.major(root)}:{os.minor(root)}", "/dev/vda", "/dev/sda")
            if os.path.exists(path)
        ),
        None,
    )
    if disk is None or os.stat(disk).st_rdev != root:
        pytest.skip("this host's root file system is on no block device")
    node, link = lab.root / "node", lab.root / "link"
    os.mknod(node, stat.S_IFBLK | 0o666, root)
    node.chmod(0o666)
    link.symlink_to(disk)
    for path, read_only in ((disk, False), (disk, True), (str(node), False), (str(node), True), (str(link), False)):
        device = {"id": "root", "type": "block", "file": path, "read_only": read_only}
        for run in (lab.check, lab.run):
            with pytest.raises(HypervisorError, match="the host itself uses this disk"):
                run(**{"state": "started", **lab.options, "devices": [device]})
    assert lab.processes() == [] and lab.facts()["state"] == "absent"


def test_two_at_once(lab: SandboxLab) -> None:
    names = ["one", "two"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        made = list(pool.map(lab.start, names))
    assert [result["sandbox"]["state"] for result in made] == ["started", "started"]
    if lab.hypervisor != "mock":
        assert len({result["sandbox"]["pid"] for result in made}) == 2
    lab.run("one", state="absent", stop_timeout=0)
    assert lab.facts("one")["state"] == "absent"
    other = lab.facts("two")
    assert (other["state"], other["pid"]) == ("started", made[1]["sandbox"]["pid"])


def test_saved_and_brought_back(lab: SandboxLab) -> None:
    lab.start()
    if not can(lab, "save"):
        for run in (lab.check, lab.run):
            with pytest.raises(Unsupported):
                run(state="saved")
        assert lab.facts()["state"] == "started"
        return
    saved = lab.run(state="saved")
    assert (saved["actions"], saved["sandbox"]["state"]) == (["pause", "save", "stop the VMM"], "saved")
    assert lab.processes() == [] and not lab.run(state="saved")["changed"]
    back = lab.run(state="paused")
    assert (back["actions"], back["sandbox"]["state"]) == (["restore"], "paused")
    assert lab.run(state="started")["actions"] == ["resume"]


# --- no silent success -----------------------------------------------------------------------------------------------


def test_every_operation_acts_or_is_refused(lab: SandboxLab) -> None:
    # A guest that is still booting releases no device. Only QEMU has a guest here that boots.
    ready = {"wait_for": {"console": "kata-guest: ready", "timeout": 120}} if lab.hypervisor == "qemu" else {}
    grown = lab.file("grown", 1 << 20)
    lab.start(devices=[{"id": "grown", "type": "block", "file": grown}], **ready)
    driver = lab.driver()
    config = driver.hypervisor_config()
    disk = BlockDrive(lab.file("extra"), id="extra", index=1)
    memory, cpus = driver.observe().memory_mb, driver.observe().vcpus
    refused: set[str] = set()
    acted: set[str] = set()

    def walk(name: str, call: Callable[[], Any], proof: Callable[[Any], bool]) -> None:
        try:
            result = call()
        except Unsupported as problem:
            assert driver.name in str(problem).lower() or "VM" in str(problem), problem
            refused.add(name)
            return
        assert proof(result), f"{name} of {driver.name} said success, and nothing shows it"
        acted.add(name)

    def power(wanted: str) -> Callable[[Any], bool]:
        return lambda _result: driver.observe().power == wanted

    walk("check", driver.check, lambda _: driver.observe().power in ("running", "paused"))
    walk("pid", driver.pid, lambda pid: os.path.exists(f"/proc/{pid}"))
    walk("observe", driver.observe, lambda seen: seen.power == "running")
    walk("capabilities", driver.capabilities, lambda found: found.block_device_hotplug in (True, False))
    walk("hypervisor_config", driver.hypervisor_config, lambda found: found.memory_size == memory)
    walk("get_thread_ids", driver.get_thread_ids, lambda ids: len(ids) == cpus or driver.name == "acrn")
    walk(
        "get_sandbox_console",
        driver.get_sandbox_console,
        lambda path: not path or driver.name == "mock" or os.path.exists(path),
    )
    walk("console_log", driver.console_log, lambda path: not path or os.path.exists(path))
    walk("vmm_log", driver.vmm_log, lambda path: not path or os.path.exists(path))
    walk("check_device", lambda: driver.check_device(disk), lambda _: "extra" not in driver.observe().devices)
    walk("hotplug_add_device", lambda: driver.hotplug_add_device(disk), lambda _: "extra" in driver.observe().devices)
    if "hotplug_add_device" in acted:
        walk("check_update", lambda: driver.check_update(disk), lambda _: "extra" in driver.observe().devices)
        walk("update_device", lambda: driver.update_device(disk), lambda _: "extra" in driver.observe().devices)
        walk(
            "hotplug_remove_device",
            lambda: driver.hotplug_remove_device(disk),
            lambda _: "extra" not in driver.observe().devices,
        )
    walk(
        "resize_vcpus",
        lambda: driver.resize_vcpus(cpus + 1),
        lambda done: done.new == driver.observe().vcpus == cpus + 1,
    )
    walk(
        "check_resize_memory",
        lambda: driver.check_resize_memory(memory + 128),
        lambda _: driver.observe().memory_mb == memory,
    )
    walk(
        "resize_memory",
        lambda: driver.resize_memory(memory + 128),
        lambda done: done.new_mb == driver.observe().memory_mb,
    )
    walk("check_resize_disk", lambda: driver.check_resize_disk("grown", 4), lambda _: os.stat(grown).st_size == 1 << 20)
    walk(
        "resize_disk",
        lambda: driver.resize_disk("grown", 4),
        lambda done: done.new_mb == 4 and (driver.name == "mock" or os.stat(grown).st_size == 4 << 20),
    )
    walk("pause_sandbox", driver.pause_sandbox, power("paused"))
    walk("resume_sandbox", driver.resume_sandbox, power("running"))
    walk("check_save", driver.check_save, power("running"))
    saved = str(lab.root / "elsewhere")
    walk(
        "save_sandbox",
        lambda: driver.save_sandbox(saved, 60),
        lambda _: bool(os.listdir(saved)) and power("paused")(None),
    )
    walk("save", driver.save, lambda state: type(driver)(driver.context).load(state, config) is None)
    walk(
        "to_grpc",
        driver.to_grpc,
        lambda payload: payload and type(driver)(driver.context).from_grpc(config, payload) is None,
    )
    walk("stop_sandbox", lambda: driver.stop_sandbox(0.1, True), power("off"))
    walk("stop_sandbox again", lambda: driver.stop_sandbox(0.1), power("off"))
    walk("create_sandbox", lambda: driver.create_sandbox(config), power("off"))
    driver.add_device(BlockDrive(grown, id="grown", index=0))
    walk("check_start", driver.check_start, power("off"))
    if "save_sandbox" in acted:
        walk("check_restore", lambda: driver.check_restore(saved), power("off"))
        walk("restore_sandbox", lambda: driver.restore_sandbox(saved, 60), power("paused"))
    else:
        walk("restore_sandbox", lambda: driver.restore_sandbox(saved, 60), power("paused"))
        walk("start_sandbox", lambda: driver.start_sandbox(20), power("running"))
    walk("disconnect", driver.disconnect, lambda _: True)
    stranger = type(driver)(driver.context)
    walk("adopt", stranger.adopt, lambda _: stranger.observe().pid)
    stranger.disconnect()
    walk("cleanup", driver.cleanup, lambda _: not os.path.exists(driver.context.run_dir))
    walk("check after the end", lambda: _refused_check(driver), lambda refusal: refusal)
    operations = {
        name for name, value in vars(Hypervisor).items() if inspect.isfunction(value) and not name.startswith("_")
    }
    elsewhere = {
        "add_device",
        "load",
        "from_grpc",
        "start_sandbox",
        "unsupported",
        "why_not",
        "guest_ways",
        "guest_facts",
    }
    elsewhere |= {"details", "explain"}
    elsewhere |= {"check_restore", "check_update", "update_device", "hotplug_remove_device"}
    assert operations - elsewhere <= acted | refused, "an operation nobody walked"
    assert {"stop_sandbox", "cleanup", "observe", "pid"} <= acted


def test_no_device_is_dropped_without_a_word(lab: SandboxLab) -> None:
    """Every kind of device is taken, and then is among those that the VM starts with, or is refused by name (Kata 1.x logs it and goes on)."""
    lab.run(state="present", **lab.options)
    driver = lab.driver()
    driver.create_sandbox(driver.hypervisor_config())
    disk = lab.file("disk", 2 << 20)
    every: list[Device] = [
        BlockDrive(disk, id="block"),
        PmemDrive(disk, "pmem", read_only=True),
        Balloon("balloon"),
        EntropyDevice("entropy"),
        MetadataService("mmds", ["net"]),
        NetworkDevice("tap", id="net"),
        NetworkDevice("macvtap", id="macvtap"),
        NetworkDevice("ipvlan", id="ipvlan"),
        Volume("tag", str(lab.root), "fs"),
        SerialPort("serial", "char", str(lab.root / "serial.sock"), "serial"),
        Vsock(7, id="vsock"),
        VfioDevice("vfio", bdf="0000:00:1f.7"),
        VhostUserDevice("vhost", str(lab.root / "vhost.sock"), "vhost-user-blk-pci"),
        CpuDevice(1),
        MemoryDevice(128),
    ]
    assert {type(device) for device in every} == {*KIND_OF, CpuDevice, MemoryDevice}
    taken, refused = [], []
    for device in every:
        try:
            driver.add_device(device)
        except HypervisorError as problem:
            assert str(problem)
            refused.append(device_id(device))
            continue
        taken.append(device_id(device))
    cold = getattr(driver, "_cold", None)
    kept = [device_id(device) for device in cold] if cold is not None else list(vars(driver)["cold_devices"])
    assert sorted(kept) == sorted(set(taken)) and "block" in taken
    assert driver.name == "mock" or refused


def _refused_check(driver: Hypervisor) -> bool:
    """A VM that is off is not healthy (trap T3: with pid 0 Kata 1.x said that it is)."""
    with pytest.raises(StateError):
        driver.check()
    return driver.pid() == 0
