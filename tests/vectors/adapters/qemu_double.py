# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A QEMU of today without a guest: it keeps what it is given, and refuses what a line's server refused.

Its process is one that sleeps; its monitors are threads of ours on the sockets that the driver made for it.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import subprocess
import threading
from typing import Any, Callable, Optional

from adapters.qemu_meaning import meaning

MIB = 1 << 20
MAX_FDS = 16
#: The version whose words the driver uses.
GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}
#: Today's commands whose recorded answers are under another name.
OLD_NAMES = {"query-cpus-fast": ("query-cpus",), "blockdev-del": ("blockdev-del", "x-blockdev-del")}
#: Questions that only some operations of Kata 1.x ask, by what the driver asks all the time.
ASKED_IN = {"query-status": ("check",), "query-cpus-fast": ("getThreadIDs",), "query-hotpluggable-cpus": ("add vCPUs",)}
VCPU = {"type": "host-x86_64-cpu", "vcpus-count": 1}


class Refusal(Exception):
    """The double refuses a command by itself."""

    def __init__(self, description: str, kind: str = "GenericError") -> None:
        super().__init__(description)
        self.reply = {"error": {"class": kind, "desc": description}}


class QemuDouble:
    """One QEMU.

    :param max_vcpus: sockets for vCPUs
    """

    def __init__(self, max_vcpus: int) -> None:
        self.max_vcpus = max_vcpus
        self.boot_vcpus = self.memory_mb = 0
        #: What the recorded server answers, by command; nothing before the line's operations begin.
        self.script: dict[str, list[str]] = {}
        self.deletes_at_once = True
        self.line_before_greeting = ""
        self.serves = True
        #: What QEMU says before it ends, empty for one that runs.
        self.failure = ""
        #: The line's operation, and the ids that Kata 1.x gives to what it names.
        self.operation = ""
        self.names: dict[str, str] = {}
        self.log: list[dict[str, Any]] = []
        #: Commands that the line's server refused in this operation.
        self.refused: list[str] = []
        self.child: Optional[subprocess.Popen[bytes]] = None
        self.sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self.status, self.migration = "prelaunch", ""
        self.vcpus: dict[str, dict[str, Any]] = {}
        self.devices: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, dict[str, Any]] = {}
        self.nodes: set[str] = set()
        self.netdevs: set[str] = set()
        self.chardevs: set[str] = set()
        self.files: dict[int, str] = {}

    # --- its process -------------------------------------------------------------------------------------------------

    def spawn(self, argv: list[str], log: str, descriptors: tuple[int, ...] = (), **_more: Any) -> Any:
        """Stands in for `process.spawn_detached`."""
        self._reset()
        facts = meaning(argv[1:])
        self.boot_vcpus, self.memory_mb = max(facts["vcpus"][0], 1), facts["memory_mb"]
        self.status = "inmigrate" if facts["incoming"] else "prelaunch"
        program = ["/bin/sh", "-c", 'printf %s "$1" >&2; exit 1', "sh", self.failure.replace("\0", "")]
        with open(log, "ab") as stream:
            self.child = subprocess.Popen(
                program if self.failure else ["/bin/sleep", "3600"],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        if self.serves and not self.failure:
            for descriptor in descriptors[:2]:
                listener = socket.socket(fileno=os.dup(descriptor))
                self.sockets.append(listener)
                threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
        return self.child

    def end(self) -> None:
        """End the process and its monitors."""
        for one in self.sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.sockets = []
        if self.child is not None:
            self.child.kill()
            self.child.wait()

    # --- its monitors ------------------------------------------------------------------------------------------------

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            self.sockets.append(client)
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            lines = [self.line_before_greeting] if self.line_before_greeting else []
            client.sendall(_bytes("".join(f"{line}\n" for line in [*lines, json.dumps(GREETING)])))
            pending = b""
            while True:
                data, ancillary, _flags, _address = client.recvmsg(65536, socket.CMSG_SPACE(MAX_FDS * 4))
                if not data:
                    return
                for _level, _type, content in ancillary:
                    for descriptor in array.array("i", content[: len(content) - len(content) % 4]):
                        os.close(descriptor)
                pending += data
                while b"\n" in pending:
                    line, _newline, pending = pending.partition(b"\n")
                    request = json.loads(line)
                    with self._lock:
                        reply = self.answer(request)
                    client.sendall(_bytes("".join(f"{one}\n" for one in reply)))
                    if request["execute"] == "quit" and self.status == "ended":
                        self.end()
                        return

    def answer(self, request: dict[str, Any]) -> list[str]:
        """The lines that answer a request; what was asked and answered is written down."""
        identifier = request.pop("id", None)
        command, arguments = request["execute"], request.get("arguments") or {}
        try:
            lines = self._scripted(command, arguments)
            if lines is None:
                lines = [json.dumps({"return": self._execute(command, arguments)})]
                if command == "device_del" and self.deletes_at_once:
                    lines.append(_deleted(arguments["id"]))
        except Refusal as refusal:
            lines = [json.dumps(refusal.reply)]
        self.log.append({"send": request, "reply": "\n".join(lines)})
        return [_with_id(line, identifier) for line in lines]

    def _scripted(self, command: str, arguments: dict[str, Any]) -> Optional[list[str]]:
        """What the line's server answers, in today's words; None where it has nothing to say to this."""
        if command in ASKED_IN and self.operation not in ASKED_IN[command]:
            return None
        if command == "query-migrate" and not self.migration:
            return None
        if not self._is_there(command, arguments):
            return None
        queue = next((self.script[name] for name in OLD_NAMES.get(command, (command,)) if self.script.get(name)), None)
        if not queue:
            return None
        text = queue[0][1:] if queue[0].startswith("*") else queue.pop(0)
        if not text:
            return None
        answers = [value for value in map(_object, text.split("\n")) if "return" in value or "error" in value]
        if answers and "error" in answers[0]:
            self.refused.append(command)
            return text.split("\n")
        if command == "query-memory-devices":
            # Kata 1.x counts by itself what it has plugged in; this QEMU has only what this driver did.
            return None
        if answers and not command.startswith("query-"):
            self._execute(command, arguments, forced=True)
        return [self._in_todays_words(command, line) for line in text.split("\n")]

    def _is_there(self, command: str, arguments: dict[str, Any]) -> bool:
        """Whether a command means something that there is: a driver also removes what an earlier task may have left."""
        kinds = {"blockdev-del": self.nodes, "netdev_del": self.netdevs, "object-del": set(self.objects)}
        return command not in kinds or str(arguments.get("node-name") or arguments.get("id")) in kinds[command]

    def _in_todays_words(self, command: str, line: str) -> str:
        value = _object(line)
        data = value.get("data")
        if isinstance(data, dict) and data.get("device") in self.names:
            return json.dumps({**value, "data": {**data, "device": self.names[data["device"]]}})
        found = value.get("return")
        if isinstance(found, list) and all(isinstance(one, dict) for one in found):
            if command == "query-cpus-fast":
                cpus = [{"cpu-index": one.get("CPU", 0), "thread-id": one.get("thread_id", 0)} for one in found]
                return json.dumps({**value, "return": cpus})
            if command == "query-hotpluggable-cpus":
                return json.dumps({**value, "return": [self._with_vcpu(_socket(one)) for one in found]})
        return line

    def _with_vcpu(self, free: dict[str, Any]) -> dict[str, Any]:
        """A recorded socket, taken if this QEMU has a vCPU in it: the lines list the same sockets as free again."""
        owner = next((name for name, place in self.vcpus.items() if place == free["props"]), "")
        return {**free, "qom-path": f"/machine/peripheral/{owner}"} if owner else free

    # --- what it does ------------------------------------------------------------------------------------------------

    def _execute(self, command: str, arguments: dict[str, Any], forced: bool = False) -> Any:
        """Do it.

        :param forced: the line's server has done it, whatever this QEMU thinks of it
        """
        known: dict[str, Callable[[dict[str, Any]], Any]] = {
            "qmp_capabilities": lambda given: {},
            "query-status": lambda given: {"status": self.status, "running": self.status == "running"},
            "query-chardev": lambda given: [{"label": "agent", "frontend-open": False, "filename": "agent"}],
            "query-cpus-fast": lambda given: self._threads(),
            "query-hotpluggable-cpus": lambda given: self._sockets(),
            "query-memory-size-summary": lambda given: self._memory(),
            "query-memory-devices": lambda given: self._modules(),
            "query-migrate": lambda given: {"status": self.migration} if self.migration else {},
            "query-fdsets": lambda given: [
                {"fdset-id": number, "fds": [{"fd": number, "opaque": name}]} for number, name in self.files.items()
            ],
            "query-named-block-nodes": lambda given: [],
            "qom-list": lambda given: [{"name": name, "type": "child"} for name in self.devices],
            "qom-get": self._property,
            "getfd": lambda given: {},
            "add-fd": self._add_file,
            "remove-fd": lambda given: self.files.pop(given.get("fdset-id", -1), None) and None,
            "device_add": self._add_device,
            "device_del": lambda given: self._remove_device(given, forced),
            "object-add": lambda given: self.objects.update({str(given.get("id")): given}),
            "object-del": lambda given: self._drop(self.objects, given.get("id")),
            "blockdev-add": lambda given: self.nodes.add(str(given.get("node-name"))),
            "blockdev-del": lambda given: self._drop(self.nodes, given.get("node-name")),
            "netdev_add": lambda given: self.netdevs.add(str(given.get("id"))),
            "netdev_del": lambda given: self._drop(self.netdevs, given.get("id")),
            "chardev-add": lambda given: self.chardevs.add(str(given.get("id"))),
            "chardev-remove": lambda given: self._drop(self.chardevs, given.get("id")),
            "stop": lambda given: self._become("paused"),
            "cont": lambda given: self._become("running"),
            "quit": lambda given: self._become("ended"),
            "system_powerdown": lambda given: {},
            "migrate": lambda given: self._migrate("postmigrate"),
            "migrate-incoming": lambda given: self._migrate("paused"),
            "migrate_cancel": lambda given: {},
            "migrate-set-capabilities": lambda given: {},
            "migrate-set-parameters": lambda given: {},
            "balloon": lambda given: {},
            "qom-set": lambda given: {},
        }
        if command not in known:
            raise Refusal(f"The command {command} has not been found", "CommandNotFound")
        found = known[command](arguments)
        return {} if found is None else found

    def _become(self, status: str) -> None:
        self.status = status

    def _migrate(self, status: str) -> None:
        self.migration, self.status = "completed", status

    def _drop(self, held: Any, name: Any) -> None:
        if name not in held:
            raise Refusal(f"there is no {name}")
        if isinstance(held, dict):
            del held[name]
        else:
            held.discard(name)

    def _add_file(self, given: dict[str, Any]) -> dict[str, int]:
        number = max(self.files, default=0) + 1
        self.files[number] = str(given.get("opaque", ""))
        return {"fdset-id": number, "fd": number}

    def _add_device(self, given: dict[str, Any]) -> None:
        name = str(given.get("id"))
        if name in self.devices:
            raise Refusal(f"Duplicate ID '{name}' for device")
        self.devices[name] = given
        if is_vcpu(given):
            self.vcpus[name] = {key: value for key, value in given.items() if key.endswith("-id")}

    def _remove_device(self, given: dict[str, Any], forced: bool) -> None:
        name = str(given.get("id"))
        if name not in self.devices and not forced:
            raise Refusal(f"Device '{name}' not found", "DeviceNotFound")
        self.devices.pop(name, None)
        self.vcpus.pop(name, None)

    def plug_vcpus(self, count: int) -> None:
        """Have vCPUs that were plugged in before."""
        for number in range(self.boot_vcpus, self.boot_vcpus + count):
            self._add_device({"driver": VCPU["type"], "id": f"cpu-{number}", "socket-id": number})

    def _threads(self) -> list[dict[str, int]]:
        return [
            {"cpu-index": number, "thread-id": 1000 + number} for number in range(self.boot_vcpus + len(self.vcpus))
        ]

    def _sockets(self) -> list[dict[str, Any]]:
        booted = [
            {**VCPU, "props": {"socket-id": number}, "qom-path": f"/machine/unattached/device[{number}]"}
            for number in range(self.boot_vcpus)
        ]
        plugged = [
            {**VCPU, "props": props, "qom-path": f"/machine/peripheral/{name}"} for name, props in self.vcpus.items()
        ]
        taken = {props.get("socket-id") for props in self.vcpus.values()}
        free = [
            {**VCPU, "props": {"socket-id": number}}
            for number in range(self.boot_vcpus, min(self.max_vcpus, 1024))
            if number not in taken
        ]
        return [*booted, *plugged, *free]

    def _modules(self) -> list[dict[str, Any]]:
        found = []
        for name, device in self.devices.items():
            if device.get("driver") == "pc-dimm":
                backend = self.objects.get(str(device.get("memdev")), {})
                slot = int(name[len("dimmmem") :]) if name[len("dimmmem") :].isdigit() else len(found)
                data = {"id": name, "slot": slot, "addr": (4 << 30) + slot * 128 * MIB, "memdev": "/objects/mem"}
                found.append({"type": "dimm", "data": {**data, "size": backend.get("size", 0)}})
        return found

    def _memory(self) -> dict[str, int]:
        plugged = sum(module["data"]["size"] for module in self._modules())
        return {"base-memory": self.memory_mb * MIB, "plugged-memory": plugged}

    def _property(self, given: dict[str, Any]) -> Any:
        if given.get("property") in ("cpu-hotplug-legacy", "readonly"):
            return False
        raise Refusal("there is no such property")


def is_vcpu(device: dict[str, Any]) -> bool:
    """Whether a device is a vCPU: it has a place in the machine's topology."""
    return any(name in device for name in ("socket-id", "core-id", "thread-id"))


def _socket(recorded: dict[str, Any]) -> dict[str, Any]:
    """A recorded socket for a vCPU. As Kata 1.x reads it, what is missing is empty, and an empty place in the tree is none."""
    props = (
        {name: 0 if value is None else value for name, value in (recorded.get("props") or {}).items()}
        if isinstance(recorded.get("props") or {}, dict)
        else recorded["props"]
    )
    found = {"type": recorded.get("type") or "", "props": props}
    return {**found, "qom-path": recorded["qom-path"]} if recorded.get("qom-path") else found


def _object(line: str) -> dict[str, Any]:
    """The object that a line is, an empty one for anything else."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _with_id(line: str, identifier: Any) -> str:
    """A reply with the id of its request, which Kata 1.x does not send and the driver does."""
    value = _object(line)
    return json.dumps({**value, "id": identifier}) if value and "event" not in value else line


def _deleted(device: str) -> str:
    data = {"device": device, "path": f"/machine/peripheral/{device}"}
    return json.dumps({"event": "DEVICE_DELETED", "data": data, "timestamp": {"seconds": 1, "microseconds": 2}})


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
