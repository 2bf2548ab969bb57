# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations of the QEMU driver against a QEMU that refuses what the line's server refused.

The words of QMP have changed, so what is compared is what becomes of the VM: whether it runs, which vCPUs, memory modules and devices it has, where they
sit, what was saved; and which operation ends with an error, and with which result. A difference is `WHERE[STEP].OPERATION.FACT`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import tempfile
import time
from typing import Any, Callable, Iterator
from unittest import mock

from adapters.answer import Answer, Console, Failed, Judged, Lost
from adapters.capabilities import bits
from adapters.fields import Fields, unknown_operation
from adapters.go_config import config_from_go, config_to_go, custom_assets
from adapters.qemu_double import QemuDouble
from adapters.qemu_request import RecordedHost, todays_config
from adapters.qmp_meaning import World
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.host import network
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import spawn
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices import vfio, vsock
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.net import Net
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.driver import QemuHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import MACHINES
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.base import Device, device_id
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.block import BlockDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.fs import Volume
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.net import NetworkDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.pmem import PmemDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.serial import SerialPort
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vfio import VfioDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vhost_user import VhostUserDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vsock import Vsock
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import socket_path

#: The recorded VM, and where Kata 1.x has its console.
SANDBOX, RUN_ROOT = "golden", "/run/vc/vm"
#: What exists on the recorded host.
FILES: dict[str, Any] = {"/golden/guest/kata.img": 131072, "/golden/shm": "dir", "/dev/shm": "dir"}
QEMU_PATH = "/golden/bin/qemu-system-x86_64"
DISK_SIZE = 2 << 20
#: Names of the numbers that Kata 1.x has for kinds of devices.
KIND_NAMES = ("image", "fs", "net", "block", "serial_port", "vsock", "vfio", "vhost_user", "cpu", "memory")
#: Milliseconds that a line can wait, and seconds that it can give a VM.
LONGEST_WAIT, LONGEST_START = 60_000, 600
#: Seconds for a save; the double needs none, and one that never completes is waited for no longer.
SAVE_SECONDS = 1
#: Interfaces that Kata 1.x gives QEMU as a tap.
TAPPED = ("veth", "tap")
NETWORK_KINDS = (*TAPPED, "bridged_macvlan", "ipvlan", "macvtap", "physical")


class SameSteps(Judged):
    """What became of the VM in each step, compared with the recorded steps.

    :param before: of the recorded VM before its first step
    """

    def __init__(self, before: World, steps: list[dict[str, Any]]) -> None:
        self.before = before
        self.steps = steps

    def differences_from(self, where: str, expected: Any) -> list[str]:
        if not isinstance(expected, list) or len(expected) != len(self.steps):
            return [f"{where}: expected {expected!r}, got {len(self.steps)} steps"]
        found: list[str] = []
        world, known = copy.deepcopy(self.before), {}
        for number, (old, new) in enumerate(zip(expected, self.steps)):
            world.follow(old.get("qmp") or [])
            if new["operation"] == "startSandbox" and not old.get("error"):
                world.power = "paused" if new["left_paused"] else "running"
            facts = {**world.facts(), "bridges": _slots(old.get("state"))}
            place = f"{where}[{number}].{new['operation']}"
            other_end = (new["error"] is None) != (old.get("error") is None)
            for name, value in new["facts"].items():
                pair = (facts.get(name), value)
                # Each difference is reported once, and the error of one side stands for what follows from it.
                if pair[0] != pair[1] and known.get(name) != pair and not other_end:
                    found.append(f"{place}.{name}: expected {pair[0]!r}, got {pair[1]!r}")
                known[name] = pair
            found += _outcome(place, old, new)
        return found


def _outcome(place: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Differences in the error and the result of a step."""
    error, failure = old.get("error"), new["error"]
    if (error is None) != (failure is None):
        refused = f"; QEMU refused {', '.join(new['refused'])}" if new["refused"] else ""
        return [f"{place}.error: expected {error!r}, got {failure!r}{refused}"]
    if failure is not None or isinstance(new["result"], Lost):
        return []
    if isinstance(new["result"], Judged):
        return new["result"].differences_from(f"{place}.result", old.get("result"))
    result = old.get("result")
    if isinstance(result, dict):
        # How Kata 1.x writes down a device is its own affair; where it sits is a fact of the VM.
        result = {name: value for name, value in result.items() if name not in ("device", "device_after")}
    return [] if result == new["result"] else [f"{place}.result: expected {result!r}, got {new['result']!r}"]


def _slots(state: Any) -> dict[str, Any]:
    """The devices behind each bridge of a recorded state."""
    bridges = (state or {}).get("Bridges") or []
    return {bridge["ID"]: bridge.get("Address") or {} for bridge in bridges}


class GivenFields(Judged):
    """Named values in which each recorded one is; the driver may have more."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def differences_from(self, where: str, expected: Any) -> list[str]:
        return [
            f"{where}.{name}: expected {value!r}, got {self.values.get(name)!r}"
            for name, value in (expected or {}).items()
            if self.values.get(name) != value
        ]


class Play:
    """One line: a driver, a QEMU, and the line's steps."""

    def __init__(self, line: Fields, root: str) -> None:
        self.line = line
        self.host = RecordedHost(root)
        self.host.set_memory(line.number("host_mem_total_kb", 0, 0))
        for path, content in FILES.items():
            self.host.make(path, content)
        self.host.make_qemu(QEMU_PATH)
        self.recorded = config_from_go(line.values.get("config"))
        self.vcpus = [vcpu.text("ID") for vcpu in line.tables("initial_hotplugged_vcpus")]
        self.config = self._wanted()
        self.double = QemuDouble(self.config.default_max_vcpus)
        self.driver = QemuHypervisor(self.host.context(SANDBOX))
        runs = line.table("server").flag("running") and not self._begins_off()
        self.power = "running" if runs else "off"
        self.world = self.new_world()
        self.saved_to = os.path.join(root, "saved")

    def _begins_off(self) -> bool:
        """Whether the line starts the VM by itself."""
        return next(iter(self.line.tables("ops")), Fields(None)).text("op") == "startSandbox"

    def new_world(self) -> World:
        """The VM before the first step."""
        return World(self.power, ["before"] * len(self.vcpus), self.host.recorded)

    def _wanted(self) -> HypervisorConfig:
        """The request in today's words: memory grows by modules, as far as the host has some, and QEMU runs a guest of its own architecture."""
        config = todays_config(self.recorded, custom_assets(self.line.values.get("config")), "amd64", self.host)
        host_mb = self.line.number("host_mem_total_kb", 0, 0) // 1024
        machine = MACHINES.get(config.hypervisor_machine_type)
        if machine is not None and "pc-dimm" in machine.memory:
            config.memory_hotplug = "pc-dimm"
            config.max_memory_mb = max(config.memory_size, host_mb)
        config.accelerator = "tcg"
        if config.block_device_driver == "nvdimm":
            # Every VM of Kata 1.x has room for files in its memory.
            config.mem_offset = config.mem_offset or 4096
        return config

    @contextlib.contextmanager
    def on_this_host(self) -> Iterator[None]:
        """Nothing of this machine is touched: its taps, its devices, its process table."""

        def null(*_given: Any) -> list[int]:
            return [os.open(os.devnull, os.O_RDWR)]

        with contextlib.ExitStack() as stack:
            stack.enter_context(self.host.in_force())
            for module, name, stand_in in (
                (spawn, "spawn_detached", self.double.spawn),
                (spawn, "EXIT_GRACE", 0.05),
                (
                    network,
                    "open_tap",
                    lambda name, queues: [os.open(os.devnull, os.O_RDWR) for _queue in range(queues)],
                ),
                (network, "open_vhost_net", lambda count: [os.open(os.devnull, os.O_RDWR) for _queue in range(count)]),
                (network, "bring_up", lambda *given: None),
                (Net, "_check_interface", lambda *given: None),
                (vsock, "_reserve_cid", lambda cid: null()[0]),
                (vsock, "VHOST_VSOCK_DEVICE", os.devnull),
                (vfio, "check", lambda device: None),
                (vfio, "let_lock", lambda *given: None),
                (vfio.Vfio, "lent", lambda *given: contextlib.nullcontext()),
            ):
                stack.enter_context(mock.patch.object(module, name, stand_in))
            try:
                yield
            finally:
                self.driver.disconnect()
                self.double.end()

    # --- a VM to begin with ------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Have what the line begins with: a template, and a VM that runs unless the line starts it.

        :raises HypervisorError: the driver refuses the request
        """
        if self.config.boot_from_template:
            self._make_template()
        self.driver.create_sandbox(self.config)
        server = self.line.table("server")
        if self.power == "running":
            self.driver.start_sandbox(LONGEST_START)
            self.begin()
        replies = server.table("scripted_replies")
        self.double.script = {command: replies.texts(command) for command in replies.values}
        self.double.deletes_at_once = server.flag("auto_device_deleted_event")
        self.double.line_before_greeting = server.text("line_before_greeting")
        self.double.serves = server.flag("running")
        outcome = self.line.text("launch_outcome")
        self.double.failure = "" if outcome == "launch succeeds" else outcome or "QEMU ended"
        self.double.log = []

    def begin(self) -> None:
        """A VM has started: give it what was plugged in before, and let it be one under KVM, which gives vCPUs back."""
        self.double.plug_vcpus(min(len(self.vcpus), 1024))
        self.driver.vmm.state.accelerator = "kvm"
        # Kata 1.x connects when it has something to ask.
        self.driver.disconnect()

    def _make_template(self) -> None:
        maker = QemuHypervisor(self.host.context("template"))
        config = dataclasses.replace(self.config, boot_from_template=False, boot_to_be_template=True)
        try:
            maker.create_sandbox(config)
            maker.start_sandbox(LONGEST_START)
            maker.save_sandbox(self.config.devices_state_path, LONGEST_START)
        finally:
            maker.stop_sandbox(0, force=True)

    # --- steps -------------------------------------------------------------------------------------------------------

    def step(self, given: Fields) -> dict[str, Any]:
        operation, arguments = given.text("op"), given.table("args")
        self.double.operation, self.double.refused, self.double.log = operation, [], []
        result, error = None, None
        try:
            if operation not in OPERATIONS:
                raise unknown_operation(operation)
            result = OPERATIONS[operation](self, arguments)
        except HypervisorError as problem:
            error = Failed(problem)
        self.world.follow(self.double.log)
        facts = self.world.facts()
        facts["bridges"] = {bridge.id: bridge.as_dict()["Address"] for bridge in self.driver.vmm.state.bridges}
        return {
            "operation": operation,
            "left_paused": self.config.boot_from_template,
            "facts": facts,
            "result": result,
            "error": error,
            "refused": self.double.refused,
        }

    def start(self, arguments: Fields) -> None:
        self.driver.start_sandbox(arguments.number("timeout", 0, None, LONGEST_START))
        self.begin()

    def stop(self) -> None:
        self.driver.stop_sandbox(0, force=True)
        # Whatever QEMU thinks of it, its process is gone.
        self.world.power = "off" if not self.driver.pid() else self.world.power

    def save_vm(self) -> None:
        self.driver.save_sandbox(self.saved_to, SAVE_SECONDS)

    def resize_vcpus(self, vcpus: int) -> dict[str, int]:
        more = vcpus > self.double.boot_vcpus + len(self.double.vcpus)
        self.double.operation = "add vCPUs" if more else "remove vCPUs"
        found = self.driver.resize_vcpus(vcpus)
        return {"old": found.old, "new": found.new}

    def resize_memory(self, arguments: Fields) -> dict[str, int]:
        found = self.driver.resize_memory(
            arguments.number("mem_mb"), arguments.number("block_mb", 0, 0), arguments.flag("probe")
        )
        return {"mem_mb": found.new_mb}

    def hotplug(self, arguments: Fields, adds: bool) -> dict[str, Any]:
        given = arguments.table("device")
        if not given.values:
            number = arguments.number("device_type", -1)
            given = Fields({"kind": KIND_NAMES[number] if 0 <= number < len(KIND_NAMES) else f"number {number}"})
        kind, fields = given.text("kind"), given.table("fields")
        if kind == "cpu":
            count = fields.number("count", 0, 0)
            old = self.double.boot_vcpus + len(self.double.vcpus)
            sizes = self.resize_vcpus(old + count if adds else old - count)
            return {"data": abs(sizes["new"] - sizes["old"])}
        if kind == "memory":
            size = fields.number("size_mb")
            old_mb = self.double.memory_mb + sum(module[1] for module in self.world.modules)
            found = self.driver.resize_memory(old_mb + size if adds else old_mb - size)
            return {"data": abs(found.new_mb - found.old_mb)}
        device = self.device(kind, fields)
        name = device_id(device)
        self.double.names = {f"virtio-{name}": f"dev-{name}", name: f"dev-{name}"}
        (self.driver.hotplug_add_device if adds else self.driver.hotplug_remove_device)(device)
        return {"data": None}

    def device(self, kind: str, fields: Fields) -> Device:
        """The record of a line's device; its files are ones of ours.

        :raises Unsupported: there is no such kind
        """
        if kind == "block":
            path = fields.text("File")
            self.host.make(path, DISK_SIZE)
            return BlockDrive(
                self.host.path(path), fields.text("Format", "raw"), fields.text("ID"), fields.number("Index")
            )
        if kind == "vfio":
            return VfioDevice(fields.text("ID"), fields.number("Type"), fields.text("BDF"), fields.text("SysfsDev"))
        if kind in TAPPED:
            return NetworkDevice(
                "tap",
                id=fields.text("tap_id"),
                name=fields.text("tap_id"),
                mac=fields.text("tapiface_mac"),
                tap_name="tap0",
                queues=max(fields.descriptors("n_vm_fds"), 1),
                vhost=fields.descriptors("n_vhost_fds") > 0,
            )
        if kind in NETWORK_KINDS:
            return NetworkDevice(kind, id=fields.text("tap_id", kind), name=fields.text("tap_id", kind))
        others: dict[str, Device] = {
            "fs": Volume("tag", self.host.root, "share"),
            "volume": Volume("tag", self.host.root, "share"),
            "serial_port": SerialPort("port0", "char0", ""),
            "socket": SerialPort("port0", "char0", ""),
            "vsock": Vsock(3),
            "vhost_user": VhostUserDevice("user0", "/golden/socket", "vhost-user-blk-pci"),
            # An image is a part of the configuration. In Kata 1.x it is a file that a guest maps.
            "image": PmemDrive(self.host.path("/golden/guest/kata.img"), id="image"),
        }
        if kind not in others:
            raise Unsupported("there is no such kind of device", wanted=kind)
        return others[kind]

    def hand_over(self) -> Lost:
        """Through the bytes of `to_grpc` and back."""
        self.driver.from_grpc(self.driver.config, self.driver.to_grpc())
        return Lost()

    def load(self) -> Lost:
        """Through the saved state and back."""
        self.driver.load(self.driver.save(), self.driver.config)
        return Lost()

    def configuration(self) -> GivenFields:
        """The configuration in force, with the recorded paths."""
        values = {
            name: self.host.recorded(value) if isinstance(value, str) else value
            for name, value in config_to_go(self.driver.hypervisor_config()).items()
        }
        return GivenFields({**values, "UseVSock": self.recorded.use_vsock})

    def add_device(self, arguments: Fields) -> Lost:
        """A device for the next start, which the line's VM has no use for."""
        given = arguments.table("device")
        if given.values:
            self.driver.add_device(self.device(given.text("kind"), given.table("fields")))
        return Lost()


def _console(_play: Play, arguments: Fields) -> Console:
    given = next((value for value in arguments.values.values() if isinstance(value, str)), SANDBOX)
    return Console(socket_path(RUN_ROOT, given, "console.sock"))


#: The interface's operations, in the names of Kata 1.x.
OPERATIONS: dict[str, Callable[[Play, Fields], Any]] = {
    "createSandbox": lambda play, arguments: play.driver.create_sandbox(play.config),
    "startSandbox": Play.start,
    "stopSandbox": lambda play, arguments: play.stop(),
    "pauseSandbox": lambda play, arguments: play.driver.pause_sandbox(),
    "resumeSandbox": lambda play, arguments: play.driver.resume_sandbox(),
    "saveSandbox": lambda play, arguments: play.save_vm(),
    "addDevice": Play.add_device,
    "hotplugAddDevice": lambda play, arguments: play.hotplug(arguments, True),
    "hotplugRemoveDevice": lambda play, arguments: play.hotplug(arguments, False),
    "resizeMemory": Play.resize_memory,
    "resizeVCPUs": lambda play, arguments: play.resize_vcpus(arguments.number("vcpus")),
    "getSandboxConsole": _console,
    "disconnect": lambda play, arguments: play.driver.disconnect(),
    "capabilities": lambda play, arguments: GivenFields(bits(play.driver.capabilities())),
    "hypervisorConfig": lambda play, arguments: play.configuration(),
    "getThreadIDs": lambda play, arguments: {
        str(vcpu): thread for vcpu, thread in play.driver.get_thread_ids().items()
    },
    # In Kata 1.x it closes descriptors; here it ends the VM, which a line's later steps would miss.
    "cleanup": lambda play, arguments: None,
    # The process is another one.
    "pid": lambda play, arguments: Lost(),
    "check": lambda play, arguments: play.driver.check(),
    "save": lambda play, arguments: Lost(),
    "load": lambda play, arguments: play.load(),
    "toGrpc": lambda play, arguments: play.hand_over(),
    "fromGrpc": lambda play, arguments: play.hand_over(),
    "wait": lambda play, arguments: time.sleep(arguments.number("ms", 0, 0, LONGEST_WAIT) / 1000),
}


def _refused(operation: str, error: HypervisorError) -> dict[str, Any]:
    """A step of a VM that the driver has refused: there is nothing to operate on."""
    common = {"operation": operation, "left_paused": False, "facts": {}, "result": None, "refused": []}
    return {**common, "error": Failed(error)}


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    with tempfile.TemporaryDirectory(prefix="kv-") as root:
        play = Play(line, root)
        before = play.new_world()
        with play.on_this_host():
            try:
                play.prepare()
            except HypervisorError as error:
                steps = [_refused(step.text("op"), error) for step in line.tables("ops")]
            else:
                steps = [play.step(step) for step in line.tables("ops")]
    return Answer({"steps": SameSteps(before, steps)})
