# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests that make and change a VM, as the driver sends them to a Firecracker of 2019 (0.17), with Kata 1.x's places and its pool.

Requests are judged strictly: which, in what order, with what values, and with what answers. How files come into a jail is not (Kata 1.x
bind-mounts everything; the driver links, copies or mounts), nor are Kata 1.x's inner states.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Callable, Optional

from adapters.answer import Answer, Failed, Judged, Lost
from adapters.fields import Fields, unknown_operation
from adapters.go_config import config_from_go, config_to_go
from adapters.kernel_params import word_differences
from adapters.records import DeviceKind, record_of
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    DeadlineExceeded,
    HypervisorError,
    StateError,
    Unsupported,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.host.processes import ProcessIdentity, identify
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import (
    device_ids,
    hotplug,
    jailer,
    start,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api.client import (
    ApiClient,
    ApiError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.devices.kinds import (
    check_device,
    device_for,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.driver import (
    FirecrackerHypervisor,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.state import Jail
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.vmm import Vmm
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.base import Device
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.block import BlockDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.fs import Volume
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.net import NetworkDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.serial import SerialPort
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vfio import VfioDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vhost_user import VhostUserDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vsock import Vsock

VERSION = (0, 17, 0)
POOL = 8
#: Seconds of a limit of time; the server here answers at once.
LONGEST = 600
#: What there is on the host that the vectors were made on.
MISSING = ("/golden/nofile", "/golden/nokernel", "/golden/guest/missing", "/golden/bin/none")
#: What today's API has in the place of an older resource, with the old body.
OLDER = {"/vsock": ("/vsocks/root", lambda body: {"id": "root", "guest_cid": body["guest_cid"]})}


class Log(Judged):
    """Requests with their answers.

    :param refused: the step ended with an error
    :param taken: the placeholders that disks had taken before it
    """

    def __init__(self, entries: list[dict[str, Any]], refused: bool, taken: list[str]) -> None:
        self.entries = entries
        self.refused = refused
        self.taken = taken

    def differences_from(self, where: str, expected: Any) -> list[str]:
        wanted = [_today(entry) for entry in expected or () if entry["kind"] == "http"]
        for entry in wanted:
            number = device_ids.placeholder_number(entry["path"].rpartition("/")[2])
            if (
                entry["method"] == "PATCH"
                and number is not None
                and (number >= POOL or (self.taken[number : number + 1] or [""])[0])
            ):
                return [f"{where}: there is no free drive_{number}"]
        old, new = [_name(entry) for entry in wanted], [_name(entry) for entry in self.entries]
        found = []
        if old and not new and self.refused:
            return [f"{where}: nothing is asked, since it is refused before"]
        if not old and new and new[0].startswith(f"PATCH /drives/{device_ids.PLACEHOLDER}"):
            return [f"{where}: {new[0]} gives a disk's place back"]
        if new != old:
            if new == old[: len(new)] and self.entries and self.entries[-1]["status"] >= 400:
                found.append(f"{where}: ends at the refusal of {new[-1]}")
            else:
                found += [f"{where}: {name} is missing" for name in old if name not in new]
                found += [f"{where}: {name} is too much" for name in new if name not in old]
                if not found:
                    found.append(f"{where}: expected the order {old}, got {new}")
        for name, entry in zip(new, self.entries):
            if name in old:
                same = wanted[old.index(name)]
                for part in ("status", "body"):
                    found += _values(f"{where}[{name}].{part}", same.get(part), entry.get(part))
        return found


def _today(entry: dict[str, Any]) -> dict[str, Any]:
    """A request of Kata 1.x's with its resource's id in the alphabet that Firecracker takes, in 2019 as today."""
    parent, _slash, name = entry["path"].rpartition("/")
    if not parent or not set(name) & set("-."):
        return entry
    body = {
        key: device_ids.api_id(name) if key in ("drive_id", "iface_id") else value
        for key, value in (entry.get("body") or {}).items()
    }
    return {**entry, "path": f"{parent}/{device_ids.api_id(name)}", "body": body}


def _name(entry: dict[str, Any]) -> str:
    return f"{entry['method']} {entry['path']}"


def _values(where: str, expected: Any, actual: Any) -> list[str]:
    if where.endswith(".boot_args") and isinstance(expected, str) and isinstance(actual, str):
        return word_differences(where, expected, actual, "")
    if isinstance(expected, dict) and isinstance(actual, dict):
        return [
            difference
            for name in {**expected, **actual}
            for difference in _values(f"{where}.{name}", expected.get(name, "nothing"), actual.get(name, "nothing"))
        ]
    return (
        []
        if expected == actual and type(expected) is type(actual)
        else [f"{where}: expected {expected!r}, got {actual!r}"]
    )


class Words(Judged):
    """A command line whose options may come in any order."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def differences_from(self, where: str, expected: Any) -> list[str]:
        old, new = _options(expected), _options(self.words)
        names = [*old, *(name for name in new if name not in old)]
        return [
            f"{where}[{name}]: expected {old.get(name, 'nothing')!r}, got {new.get(name, 'nothing')!r}"
            for name in names
            if old.get(name, "nothing") != new.get(name, "nothing")
        ]


def _options(words: Any) -> dict[str, str]:
    if not isinstance(words, list) or not words:
        return {}
    found, name = {"program": words[0]}, ""
    for word in words[1:]:
        if word.startswith("--"):
            name = word
            found[name] = ""
        else:
            found[name] = word
    return found


class Server(ApiClient):
    """A Firecracker that writes down what it is asked, and answers as the line says."""

    def __init__(self, given: Fields) -> None:
        super().__init__("", 1, "0.17.0")
        self.given = given
        self.state = given.text("initial_state", "Uninitialized")
        self.log: list[dict[str, Any]] = []

    def request(self, method: str, endpoint: str, body: Optional[dict[str, Any]] = None, seconds: float = 0) -> bytes:
        path, older = OLDER.get(endpoint, (endpoint, lambda given: given))
        usual = self.given.number("vsock_status", 204) if path == "/vsocks/root" else 200 if method == "GET" else 204
        status = self.given.table("fail").number(f"{method} {path}", usual)
        entry = {"kind": "http", "method": method, "path": path, "status": status}
        self.log.append(entry if body is None else {**entry, "body": older(body)})
        if status >= 400:
            raise ApiError(f"refused {method} {path}", status, answer="simulated failure")
        if body and body.get("action_type") == "InstanceStart":
            self.state = "Running"
        return json.dumps({"state": self.state} if endpoint == "/" else {}).encode()


class Machine(Vmm):
    """The VM of a line; this process plays its Firecracker."""

    def __init__(self, server: Server) -> None:
        super().__init__(Context("golden", "/nonexistent/run", "/nonexistent/state"))
        self.server = server
        self.running = False
        self.state.version = list(VERSION)

    def process(self) -> Optional[ProcessIdentity]:
        return identify(os.getpid()) if self.running else None

    def api(self, seconds: float = 0) -> ApiClient:
        if not self.running:
            raise StateError("the VM does not run")
        return self.server

    def kill(self) -> None:
        self.running = False


class Places(hotplug.HostResources):
    """Kata 1.x's places for files."""

    def own_path(self, name: str) -> str:
        return f"/{name}" if self.config.jailer_path else f"{{JAILER_ROOT}}/{name}"

    def provide_file(self, source: str, name: str, read_only: bool = True, shared: bool = False) -> str:
        return self.own_path(name)

    def provide_socket(self, name: str) -> str:
        return self.own_path(name)

    def provide_tap(self, net: NetworkDevice) -> None:
        pass

    def file_path(self, source: str, name: str) -> str:
        identity, pool = device_ids.user_id(name[len("disk_") :]), self.vmm.state.placeholders
        # Kata 1.x mounts a disk that is plugged over the empty file whose place it takes.
        return self.own_path(f"drive_{pool.index(identity)}" if identity in pool else identity)


class Play:
    """One line, played step by step."""

    def __init__(self, given: Fields) -> None:
        self.given = given
        self.server = Server(given.table("server"))
        self.machine = Machine(self.server)
        self.driver = FirecrackerHypervisor(self.machine.context)
        self.driver.vmm = self.machine
        self.driver.config = self.config = config_from_go(given.table("config").values)
        # Kata 1.x takes that for a word about its agent, and has a vsock where a device says so.
        self.config.use_vsock = False
        self.config.placeholder_drives = POOL
        self.devices: list[Device] = []
        #: A disk that is not there ends a task before anything is started.
        self.refusal: Optional[HypervisorError] = None

    def step(self, operation: Fields) -> dict[str, Any]:
        self.server.log = []
        error = None
        taken = list(self.machine.state.placeholders)
        try:
            name = operation.text("op")
            if name not in OPERATIONS:
                raise unknown_operation(name)
            OPERATIONS[name](self, operation.table("args"))
        except HypervisorError as problem:
            error = Failed(problem)
        inside = dict.fromkeys(("result", "state_after", "pending_devices", "pid_set", "elapsed_s"), Lost())
        return {
            **inside,
            "error": error,
            "log": Log(self.server.log, error is not None, taken),
            "process_alive": self.machine.running,
        }

    def addDevice(self, arguments: Fields) -> None:
        try:
            self._add(arguments)
        except HypervisorError as problem:
            self.refusal = problem
            raise

    def _add(self, arguments: Fields) -> None:
        if self.machine.running:
            raise StateError("the VM runs already: this is a hotplug")
        made = _device(arguments.table("device")) if "device" in arguments else _of_kind(arguments)
        if made is None:
            raise AssetError("the disk does not exist")
        if isinstance(made, (BlockDrive, NetworkDevice, Vsock)):
            self.devices.append(made)
        else:
            check_device(device_for(made), self.config, VERSION, None, [])

    def startSandbox(self, arguments: Fields) -> None:
        config, timeout = self.config, arguments.number("timeout")
        if "store" in self.given and not self.given.flag("store"):
            # Kata 1.x, which keeps the placeholders' files there, crashes.
            raise StateError("there is no store to keep the placeholders' files in")
        config.check_consistent()
        config.valid()
        for path in (config.hypervisor_path, config.kernel_path, config.image_path):
            if path in MISSING:
                raise AssetError("the file does not exist", wanted=path)
        if isinstance(self.refusal, AssetError):
            raise self.refusal
        for device in self.devices:
            if isinstance(device, NetworkDevice) and device.kind != "tap":
                # Kata 1.x, which looks for the tap of every interface, crashes.
                raise Unsupported(f"Firecracker's interfaces are taps, not {device.kind}")
        server = self.given.table("server")
        if timeout < 0 or ("running" in server and not server.flag("running")):
            raise DeadlineExceeded("Firecracker did not answer on its API in time")
        self.machine.running = True
        self.machine.state.placeholders = [""] * POOL
        try:
            self.server.get("/")
            host = Places(self.machine, config)
            start.boot(self.machine, config, self.devices, self.server, host, time.monotonic() + min(timeout, LONGEST))
        except BaseException:
            self.machine.kill()
            raise

    def check(self) -> None:
        self.machine.api()

    def hotplugAddDevice(self, arguments: Fields) -> None:
        hotplug.attach(self.machine, self.config, self._hot(arguments))

    def hotplugRemoveDevice(self, arguments: Fields) -> None:
        hotplug.detach(self.machine, self.config, self._hot(arguments))

    def _hot(self, arguments: Fields) -> Device:
        """What is to be plugged: a device of the line, or the number of a kind alone."""
        values = (arguments.values, *arguments.values.values())
        fields = next((value for value in values if isinstance(value, dict) and "File" in value), None)
        given = (
            arguments.table("device")
            if "device" in arguments
            else Fields({"kind": "block", "fields": fields} if fields else {})
        )
        made = _device(given) if given.values else _of_kind(arguments)
        if made is None:
            raise AssetError("the disk does not exist")
        return made


#: The interface's operations, in Kata 1.x's names.
OPERATIONS: dict[str, Callable[[Play, Fields], Any]] = {
    "createSandbox": lambda play, arguments: None,
    "addDevice": Play.addDevice,
    "startSandbox": Play.startSandbox,
    "stopSandbox": lambda play, arguments: play.machine.kill(),
    "cleanup": lambda play, arguments: play.machine.kill(),
    "disconnect": lambda play, arguments: play.driver.disconnect(),
    "check": lambda play, arguments: play.check(),
    "pauseSandbox": lambda play, arguments: play.driver.pause_sandbox(),
    "resumeSandbox": lambda play, arguments: play.driver.resume_sandbox(),
    "saveSandbox": lambda play, arguments: play.driver.save_sandbox("/nonexistent/saved", 1),
    "getThreadIDs": lambda play, arguments: play.check(),
    "getSandboxConsole": lambda play, arguments: play.driver.get_sandbox_console(),
    "resizeVCPUs": lambda play, arguments: play.driver.resize_vcpus(arguments.number("vcpus")),
    "resizeMemory": lambda play, arguments: play.driver.resize_memory(
        arguments.number("mem_mb"), arguments.number("block_mb"), arguments.flag("probe")
    ),
    "hotplugAddDevice": Play.hotplugAddDevice,
    "hotplugRemoveDevice": Play.hotplugRemoveDevice,
    "capabilities": lambda play, arguments: play.driver.capabilities(),
    "hypervisorConfig": lambda play, arguments: config_to_go(play.driver.hypervisor_config()),
    "pid": lambda play, arguments: play.driver.pid(),
    "save": lambda play, arguments: play.driver.save(),
    "load": lambda play, arguments: play.driver.load(play.driver.save(), play.config),
    "toGrpc": lambda play, arguments: play.driver.to_grpc(),
    "fromGrpc": lambda play, arguments: play.driver.from_grpc(play.config, b""),
    # There is nothing to wait for.
    "wait": lambda play, arguments: None,
}


def _device(given: Fields) -> Optional[Device]:
    """The device record of a line's device; None for a disk that is not there."""
    kind, fields = given.text("kind"), given.table("fields")
    if kind == "block":
        path = fields.text("File")
        if not path or path in MISSING:
            return None
        return BlockDrive(path, id=fields.text("ID"), index=fields.number("Index"))
    if kind in ("vsock", "vsock_hybrid"):
        return Vsock(fields.number("context_id") or fields.number("ContextID") or 3)
    if kind == "volume":
        return Volume(fields.text("mount_tag", "t"), fields.text("host_path", "/p"))
    if kind == "socket":
        return SerialPort(fields.text("device_id", "d"), fields.text("id", "i"), fields.text("host_path"))
    if kind.startswith("vhost_user"):
        return VhostUserDevice(fields.text("DevID", "d"), fields.text("SocketPath", "/s"), fields.text("Type"))
    if kind == "vfio":
        return VfioDevice("vfio")
    names = {
        "cpu": DeviceKind.CPU,
        "memory": DeviceKind.MEMORY,
        "fs": DeviceKind.FS,
        "serial_port": DeviceKind.SERIAL_PORT,
    }
    if kind in names:
        return record_of(names[kind], _value(names[kind]))
    if kind in ("tap", "physical", "macvtap"):
        # Kata 1.x's endpoints without a pair of interfaces.
        return NetworkDevice("macvtap", name=fields.text("name", kind), tap_name=fields.text("name", kind))
    if kind in ("veth", "bridged_macvlan", "ipvlan"):
        return NetworkDevice(
            "tap", name=fields.text("virt_name"), mac=fields.text("tapiface_mac"), tap_name=fields.text("tapiface_name")
        )
    raise Unsupported(f"Firecracker has no device for {kind}")


def _value(kind: int) -> Any:
    return {DeviceKind.CPU: 1, DeviceKind.MEMORY: {"size_mb": 1}}.get(DeviceKind(kind))


def _of_kind(arguments: Fields) -> Device:
    """A device of which a line tells the number of its kind alone.

    :raises Unsupported: it is a disk, of which nothing else is known, or there is no such kind
    """
    kind = arguments.number("device_type")
    if kind == DeviceKind.BLOCK or not DeviceKind.IMAGE <= kind <= DeviceKind.MEMORY:
        raise Unsupported(f"Firecracker has no device for kind {kind}")
    return record_of(kind, _value(kind))


def _words(play: Play, sandbox: str) -> list[str]:
    config = play.config
    if not config.jailer_path:
        return [
            config.hypervisor_path,
            "--api-sock",
            play.machine.socket.replace(play.machine.context.run_dir, "{JAILER_ROOT}").replace(".sock", ".socket"),
        ]
    config.network_namespace = play.given.text("netns")
    jail = Jail("/var/lib/vc", os.path.basename(config.hypervisor_path), jailer.jail_id(sandbox), 0, 0)
    return jailer.argv(config, config.jailer_path, config.hypervisor_path, VERSION, jail, [])


def run(given: dict[str, Any]) -> Answer:
    stand_ins = {
        (start, "is_partitioned"): lambda image: True,
        (hotplug, "HostResources"): Places,
    }
    line = Fields(given)
    kept = {place: getattr(*place) for place in stand_ins}
    for (module, name), stand_in in stand_ins.items():
        setattr(module, name, stand_in)
    try:
        play = Play(line)
        lost = ("gid", "uid", "hypervisor_json", "jailer_root", "socket_path", "vm_path")
        answer = {
            **{name: Lost() for name in lost},
            "steps": [play.step(operation) for operation in line.tables("ops")],
        }
    finally:
        for (module, name), real in kept.items():
            setattr(module, name, real)
    if play.config.hypervisor_path not in MISSING:
        answer["process_argv"] = Words(_words(play, line.text("sandbox_id")))
    return Answer(answer)
