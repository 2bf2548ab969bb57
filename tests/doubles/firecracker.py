# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for Firecracker: its arguments, its API over a unix socket with the rules of its states, its words and its pitfalls.

It runs no guest. What it does was observed on real ones (0.21.3 and 1.17-dev) or read in their sources. It is told by its environment:

FIRECRACKER_DOUBLE_VERSION   the version to be, 1.16.1 when not given
FIRECRACKER_DOUBLE_FAULTS    words out of FAULTS, separated by commas
FIRECRACKER_DOUBLE_REQUESTS  a file that takes every request as a line of JSON
"""

from __future__ import annotations

import contextlib
import ctypes
import encodings.ascii
import encodings.idna
import encodings.latin_1
import fcntl
import http.server
import itertools
import json
import mmap
import os
import re
import signal
import socket
import socketserver
import stat
import struct
import sys
import threading
import time
import traceback

#: A jailed double can load nothing later: what others import only when it is needed is here from the start.
LOADED = (encodings.ascii, encodings.idna, encodings.latin_1, traceback)

FAULTS = {
    "dies_at_once": "ends with exit code 1 before its API is there",
    "never_answers": "makes no socket and sleeps",
    "refuses_machine": "does not take the machine's configuration",
    "refuses_start": "does not start the VM",
    "starts_paused": "takes the start, and its VM does not run",
    "ignores_keys": "the guest does not hear Ctrl-Alt-Del",
    "ignores_sigterm": "SIGTERM does nothing",
    "takes_half": "the guest takes and gives only half of the memory it is asked to",
    "no_memory_driver": "the guest has no virtio-mem",
    "busy": "every third request is answered with 503",
    "snapshot_fails": "snapshots cannot be written",
    "hangs_on_pause": "pausing takes for ever",
    "file_limit": "a save grows a file beyond its limit, which ends the process as a real one's signal handler does",
    "no_realtime": "a snapshot does not say when it was taken",
    "no_agent": "no program of the guest listens on a vsock port",
    "wild_agent": "the guest's agent answers nonsense",
    "nonsense": "once the VM has started, every answer is something else",
}

#: The port at which the guest's agent listens, what it answers, and the ports of the host's side of connections.
AGENT_PORT = 1022
AGENT_ANSWERS = {
    "guest-get-osinfo": {"id": "double", "kernel-release": "6.1.0-double", "name": "Double"},
    "guest-network-get-interfaces": [
        {"name": "eth0", "ip-addresses": [{"ip-address": "192.0.2.7", "ip-address-type": "ipv4", "prefix": 24}]}
    ],
    "guest-get-fsinfo": [
        {"name": "vda", "mountpoint": "/", "type": "ext4", "total-bytes": 64 << 20, "used-bytes": 5 << 20, "disk": []}
    ],
}
LOCAL_PORTS = itertools.count(1 << 30)

#: What comes in the place of an answer.
NONSENSE = (
    None,
    [],
    {},
    "x",
    5,
    {"state": 5},
    {"state": "\x1b[2J"},
    {"machine-config": []},
    {"fault_message": {}},
    {"state": "Running", "drives": {}},
    {"machine-config": {"vcpu_count": -1, "mem_size_mib": "much"}},
    {"machine-config": {"vcpu_count": 1, "mem_size_mib": 1}, "drives": [{}]},
)

OK, NO_CONTENT, BAD = 200, 204, 400
NOT_STARTED, RUNNING, PAUSED = "Not started", "Running", "Paused"
BEFORE_BOOT = "The requested operation is not supported before starting the microVM."
AFTER_BOOT = "The requested operation is not supported after starting the microVM."
ID = re.compile(r"[A-Za-z0-9_]{1,64}")

#: Fields that each body may have; those with a star must be there. Serde refuses unknown ones.
BUCKET = {"size*": int, "refill_time*": int, "one_time_burst": int}
LIMITER = {"bandwidth": BUCKET, "ops": BUCKET}
BODIES = {
    ("PUT", "actions"): {"action_type*": str},
    ("PUT", "boot-source"): {"kernel_image_path*": str, "initrd_path": str, "boot_args": str},
    ("PUT", "machine-config"): {
        "vcpu_count*": int,
        "mem_size_mib*": int,
        "smt": bool,
        "cpu_template": str,
        "track_dirty_pages": bool,
        "huge_pages": str,
    },
    ("PUT", "drives"): {
        "drive_id*": str,
        "is_root_device*": bool,
        "path_on_host": str,
        "is_read_only": bool,
        "partuuid": str,
        "cache_type": str,
        "rate_limiter": LIMITER,
        "io_engine": str,
        "socket": str,
    },
    ("PATCH", "drives"): {"drive_id*": str, "path_on_host": str, "rate_limiter": LIMITER},
    ("PUT", "network-interfaces"): {
        "iface_id*": str,
        "host_dev_name*": str,
        "guest_mac": str,
        "mtu": int,
        "rx_rate_limiter": LIMITER,
        "tx_rate_limiter": LIMITER,
    },
    ("PATCH", "network-interfaces"): {"iface_id*": str, "rx_rate_limiter": LIMITER, "tx_rate_limiter": LIMITER},
    ("PUT", "vsock"): {"guest_cid*": int, "uds_path*": str, "vsock_id": str},
    ("PUT", "entropy"): {"rate_limiter": LIMITER},
    ("PUT", "logger"): {"log_path": str, "level": str, "show_level": bool, "show_log_origin": bool, "module": str},
    ("PUT", "metrics"): {"metrics_path*": str},
    ("PUT", "balloon"): {
        "amount_mib*": int,
        "deflate_on_oom*": bool,
        "stats_polling_interval_s": int,
        "free_page_hinting": bool,
        "free_page_reporting": bool,
    },
    ("PATCH", "balloon"): {"amount_mib*": int},
    ("PATCH", "balloon/statistics"): {"stats_polling_interval_s*": int},
    ("PUT", "pmem"): {
        "id*": str,
        "path_on_host*": str,
        "root_device": bool,
        "read_only": bool,
        "rate_limiter": LIMITER,
    },
    ("PATCH", "pmem"): {"id*": str, "rate_limiter": LIMITER},
    ("PUT", "mmds/config"): {"network_interfaces*": list, "version": str, "ipv4_address": str, "imds_compat": bool},
    ("PUT", "mmds"): {},
    ("PATCH", "mmds"): {},
    ("PUT", "serial"): {"serial_out_path": str, "rate_limiter": BUCKET},
    ("PUT", "cpu-config"): {
        "kvm_capabilities": list,
        "cpuid_modifiers": list,
        "msr_modifiers": list,
        "reg_modifiers": list,
        "vcpu_features": list,
    },
    ("PATCH", "vm"): {"state*": str},
    ("PUT", "hotplug/memory"): {"total_size_mib*": int, "slot_size_mib": int, "block_size_mib": int},
    ("PATCH", "hotplug/memory"): {"requested_size_mib*": int},
    ("PUT", "snapshot/create"): {"snapshot_path*": str, "mem_file_path*": str, "snapshot_type": str},
    ("PUT", "snapshot/load"): {
        "snapshot_path*": str,
        "mem_file_path": str,
        "mem_backend": {"backend_type*": str, "backend_path*": str},
        "resume_vm": bool,
        "track_dirty_pages": bool,
        "enable_diff_snapshots": bool,
        "network_overrides": list,
        "vsock_override": dict,
        "clock_realtime": bool,
    },
}
#: The version that first had a path; what is not here was always there.
SINCE = {
    "GET /version": (1, 0),
    "GET /vm/config": (0, 25),
    "PATCH /vm": (0, 23),
    "PUT /snapshot": (0, 23),
    "PUT /entropy": (1, 4),
    "PUT /hotplug": (1, 14),
    "GET /hotplug": (1, 14),
    "PATCH /hotplug": (1, 14),
    "PUT /metrics": (0, 22),
    "DELETE /drives": (1, 16),
    "DELETE /network-interfaces": (1, 16),
    "DELETE /pmem": (1, 16),
    "PUT /pmem": (1, 14),
    "PATCH /pmem": (1, 16),
    "PUT /balloon": (0, 24),
    "GET /balloon": (0, 24),
    "PATCH /balloon": (0, 24),
    "PUT /serial": (1, 14),
    "PUT /cpu-config": (1, 4),
    "PUT /mmds/config": (0, 22),
}
#: The version that first had a field of a body.
FIELDS_SINCE = {
    "free_page_hinting": (1, 14),
    "free_page_reporting": (1, 14),
    "imds_compat": (1, 13),
    "network_overrides": (1, 12),
    "vsock_override": (1, 16),
    "clock_realtime": (1, 16),
    "mtu": (1, 16),
    "io_engine": (1, 0),
    "cache_type": (0, 25),
}
PRE_BOOT_ONLY = (
    "boot-source",
    "machine-config",
    "vsock",
    "entropy",
    "logger",
    "metrics",
    "snapshot/load",
    "hotplug/memory",
    "balloon",
    "mmds/config",
    "serial",
    "cpu-config",
)
#: Bytes of the metadata store, and of a request.
STORE_LIMIT = PAYLOAD_LIMIT = 51200


NO_BALLOON = "Internal VMM error: Error finding device: Device not found"


class Refused(Exception):
    """A fault_message."""


class Fatal(Refused):
    """A fault_message after which the process ends."""


def version() -> tuple[int, ...]:
    return tuple(int(part) for part in os.environ.get("FIRECRACKER_DOUBLE_VERSION", "1.16.1").split("."))


def faults() -> set[str]:
    told = set(filter(None, os.environ.get("FIRECRACKER_DOUBLE_FAULTS", "").split(",")))
    if told - set(FAULTS):
        raise SystemExit(f"there are no such faults: {told - set(FAULTS)}")
    return told


def os_error(error: OSError) -> str:
    return f"{os.strerror(error.errno)} (os error {error.errno})"


def check_fields(body: object, fields: dict, where: str = "") -> None:
    """What serde says about a body."""
    intro = "An error occurred when deserializing the json body of a request: "
    if not isinstance(body, dict):
        raise Refused(f"{intro}invalid type, expected a map{where}.")
    known = {name.rstrip("*"): kind for name, kind in fields.items()}
    for name, value in body.items():
        if name not in known:
            expected = ", ".join(f"`{one}`" for one in known)
            raise Refused(f"{intro}unknown field `{name}`, expected one of {expected}{where}.")
        kind = known[name]
        if isinstance(kind, dict):
            check_fields(value, kind, f" in {name}")
        elif not isinstance(value, kind) or (kind is int and (isinstance(value, bool) or value < 0)):
            raise Refused(f"{intro}invalid type: {json.dumps(value)} for `{name}`{where}.")
    for name in fields:
        if name.endswith("*") and name.rstrip("*") not in body:
            raise Refused(f"{intro}missing field `{name.rstrip('*')}`{where}.")


def balloon_word() -> str:
    return "amount_mib" if version() >= (0, 24, 3) else "amount_mb"


def merged(old: object, patch: object) -> object:
    """A JSON value with a patch merged into it (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


LIBC = ctypes.CDLL(None)


def set_thread_name(name: str) -> None:
    LIBC.prctl(15, name.encode(), 0, 0, 0)


class Machine:
    """The VM that is not there."""

    def __init__(self, identity: str, pci: bool, told: set[str]) -> None:
        self.identity, self.pci, self.told = identity, pci, told
        self.state = NOT_STARTED
        self.machine = {
            "vcpu_count": 1,
            "mem_size_mib": 128,
            "smt": False,
            "track_dirty_pages": False,
            "huge_pages": "None",
        }
        self.boot_source: dict = {}
        self.drives: dict[str, dict] = {}
        self.interfaces: dict[str, dict] = {}
        self.vsock: dict = {}
        self.vsock_listener: socket.socket | None = None
        self.entropy: dict | None = None
        self.balloon: dict | None = None
        self.ballooned = 0
        self.pmem: dict[str, dict] = {}
        self.mmds_config: dict | None = None
        self.mmds: dict | None = None
        self.region: dict | None = None
        self.plugged = self.requested = 0
        self.metrics = ""
        self.boot_path = False
        self.written: list[str] = []
        self.log: object = None
        self.level = "Info" if version() >= (0, 22) else "Error"
        self.taps: dict[str, int] = {}
        self.backing: list[object] = []
        #: Of each drive, bytes, as the guest was told.
        self.sizes: dict[str, int] = {}

    # --- the requests ----------------------------------------------------------------------------------------------

    def handle(self, method: str, path: str, body: object) -> object:
        parts = path.strip("/").split("/") if path.strip("/") else []
        head = parts[0] if parts else ""
        unknown = Refused(f"Invalid request method and/or path: {method.upper()} {path.strip('/')}.")
        if version() < SINCE.get(f"{method} /{path.strip('/')}", SINCE.get(f"{method} /{head}", (0, 0))):
            raise unknown
        name = "/".join(parts[:2]) if head in ("snapshot", "hotplug", "balloon", "mmds") else head
        if method == "GET":
            return self.get("/".join(parts), unknown)
        if method == "DELETE" and head in ("drives", "network-interfaces", "pmem") and len(parts) == 2:
            return self.unplug(head, parts[1])
        fields = self.fields(method, name)
        if fields is None:
            raise unknown
        if name in ("drives", "network-interfaces", "pmem"):
            key = {"drives": "drive_id", "network-interfaces": "iface_id", "pmem": "id"}[name]
            if len(parts) != 2 or not ID.fullmatch(parts[1]):
                raise Refused("API Resource IDs can only contain alphanumeric characters and underscores.")
            check_fields(body, fields)
            if body[key] != parts[1]:
                raise Refused("The id from the path does not match the id from the body!")
        elif name == "mmds":
            if not isinstance(body, dict):
                raise Refused("MMDS error: Cannot retrieve value. The value has an unsupported type.")
        else:
            check_fields(body, fields)
        if method == "PUT" and name in PRE_BOOT_ONLY and self.state != NOT_STARTED:
            raise Refused(AFTER_BOOT)
        if (method == "PATCH" or name == "snapshot/create") and self.state == NOT_STARTED and name != "mmds":
            raise Refused(BEFORE_BOOT)
        return getattr(self, f"{method.lower()}_{name.replace('-', '_').replace('/', '_')}")(body)

    def fields(self, method: str, name: str) -> dict | None:
        fields = BODIES.get((method, name))
        if name == "machine-config" and version() < (1, 0) and fields is not None:
            fields = {
                **{key: kind for key, kind in fields.items() if key not in ("smt", "huge_pages")},
                "ht_enabled*": bool,
            }
        if name == "logger" and version() < (0, 22):
            fields = {"log_fifo*": str, "metrics_fifo*": str, "level": str, "options": list}
        if name == "boot-source" and version() < (0, 21) and fields is not None:
            fields = {key: kind for key, kind in fields.items() if key != "initrd_path"}
        if name == "actions" and version() < (0, 21) and fields is not None:
            fields = {**fields, "payload": str}
        if name == "balloon" and version() < (0, 24, 3) and fields is not None:
            fields = {key.replace("amount_mib", "amount_mb"): kind for key, kind in fields.items()}
        if name == "snapshot/load" and version() < (1, 13) and fields is not None:
            fields = {key: kind for key, kind in fields.items() if key != "track_dirty_pages"}
        if name == "pmem" and version() < (1, 16) and fields is not None:
            fields = {key: kind for key, kind in fields.items() if key != "rate_limiter"}
        return fields and {
            key: kind for key, kind in fields.items() if version() >= FIELDS_SINCE.get(key.rstrip("*"), (0, 0))
        }

    def get(self, path: str, unknown: Refused) -> object:
        if path == "":
            state = self.state if version() >= (0, 24) or self.state != NOT_STARTED else "Uninitialized"
            words = ".".join(map(str, version()))
            return {"id": self.identity, "state": state, "vmm_version": words, "app_name": "Firecracker"}
        if path == "version":
            return {"firecracker_version": ".".join(map(str, version()))}
        if path == "machine-config":
            return self.machine
        if path == "vm/config":
            return self.config()
        if path == "hotplug/memory":
            if self.state == NOT_STARTED:
                raise Refused(BEFORE_BOOT)
            if self.region is None:
                raise Refused("Memory hotplug error: No virtio-mem device found")
            return {**self.region, "plugged_size_mib": self.plugged, "requested_size_mib": self.requested}
        if path == "balloon":
            if self.balloon is None:
                raise Refused(
                    NO_BALLOON if self.state != NOT_STARTED else "Balloon config error: No balloon device found."
                )
            return self.balloon
        if path == "balloon/statistics":
            return self.get_balloon_statistics()
        if path == "mmds":
            return self.store() or {}
        raise unknown

    def config(self) -> dict:
        config: dict = {
            "machine-config": self.machine,
            "boot-source": self.boot_source,
            "drives": list(self.drives.values()),
            "network-interfaces": list(self.interfaces.values()),
            "vsock": self.vsock or None,
            "entropy": self.entropy,
            "memory-hotplug": self.region,
            "balloon": self.balloon,
            "pmem": list(self.pmem.values()),
            "mmds-config": self.mmds_config,
        }
        return config

    # --- before the start ------------------------------------------------------------------------------------------

    def put_machine_config(self, body: dict) -> None:
        if "refuses_machine" in self.told:
            raise Refused("The memory size (MiB) is invalid.")
        if not 1 <= body["vcpu_count"] <= 32:
            raise Refused(
                "The vCPU number is invalid! The vCPU number can only be 1 or an even number when SMT is enabled."
            )
        if body["mem_size_mib"] == 0:
            raise Refused("The memory size (MiB) is invalid.")
        self.machine.update(body)
        self.boot_path = True

    def put_boot_source(self, body: dict) -> None:
        for name, what in (("kernel_image_path", "kernel"), ("initrd_path", "initrd")):
            if name in body:
                try:
                    with open(body[name], "rb"):
                        pass
                except OSError as error:
                    raise Refused(f"Boot source error: The {what} file cannot be opened: {os_error(error)}") from error
        self.boot_source = body
        self.boot_path = True

    def put_drives(self, body: dict) -> None:
        if self.state != NOT_STARTED:
            self.require_pci("hotplugged")
            if body["drive_id"] in self.drives:
                raise Refused(f"Hotplug error: Device with id {body['drive_id']} already exists")
        if "socket" in body:
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(body["socket"])
                except OSError as error:
                    raise Refused(
                        f"Drive error: Unable to create the vhost-user block device: {os_error(error)}"
                    ) from error
        else:
            self.open_disk(body.get("path_on_host", ""), body.get("is_read_only", False), body["drive_id"])
        if body.get("cache_type") not in (None, "Unsafe", "Writeback") or body.get("io_engine") not in (
            None,
            "Sync",
            "Async",
        ):
            raise Refused("An error occurred when deserializing the json body of a request: unknown variant.")
        if body["is_root_device"] and any(drive["is_root_device"] for drive in self.drives.values()):
            raise Refused("Drive error: A root block device already exists!")
        self.drives[body["drive_id"]] = body
        self.boot_path = True

    def open_disk(self, path: str, read_only: bool, drive: str) -> None:
        try:
            self.backing.append(open(path, "rb" if read_only else "r+b"))  # noqa: SIM115 - as long as the machine
            self.sizes[drive] = os.stat(path).st_size
        except OSError as error:
            raise Refused(
                "Drive error: Unable to create the virtio block device: Virtio backend error: Error manipulating the backing file: "
                f"{os_error(error)} {path}"
            ) from error

    def put_network_interfaces(self, body: dict) -> None:
        if self.state != NOT_STARTED:
            self.require_pci("hotplugged")
            self.open_tap(body["host_dev_name"])
        self.interfaces[body["iface_id"]] = body
        self.boot_path = True

    def open_tap(self, name: str) -> None:
        try:
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(descriptor, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x5002))
        except OSError as error:
            raise Refused(
                f"Network device error: Open tap device failed: Error while creating ifreq structure: {os_error(error)}"
            ) from error
        self.taps[name] = descriptor

    def put_vsock(self, body: dict) -> None:
        if version() < (1, 0) and "vsock_id" not in body:
            raise Refused("An error occurred when deserializing the json body of a request: missing field `vsock_id`.")
        if body["guest_cid"] < 3:
            raise Refused("Vsock error: Invalid guest CID")
        self.bind_vsock(body["uds_path"])
        self.vsock = body
        self.boot_path = True

    def bind_vsock(self, path: str) -> None:
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(path)
            listener.listen(8)
        except OSError as error:
            listener.close()
            raise Refused(
                f"Cannot create backend for vsock device: Error binding to the host-side Unix socket: {os_error(error)}"
            ) from error
        self.vsock_listener = listener
        threading.Thread(target=self.serve_vsock, daemon=True).start()

    def serve_vsock(self) -> None:
        while self.vsock_listener is not None:
            connection, _address = self.vsock_listener.accept()
            threading.Thread(target=self.connect_guest, args=(connection,), daemon=True).start()

    def connect_guest(self, connection: socket.socket) -> None:
        """What the muxer of the real one does with a connection of the host's: the guest accepts, or it is closed without a word."""
        with connection, contextlib.suppress(OSError):
            words = b""
            while not words.endswith(b"\n") and len(words) < 32:
                byte = connection.recv(1)
                if not byte:
                    return
                words += byte
            word, _blank, port = words.decode("latin-1").strip().partition(" ")
            if word.lower() != "connect" or not port.isdigit():
                return
            # A guest that does not run answers nothing, and is given up after two seconds.
            for _look in range(20):
                if self.state == RUNNING:
                    break
                time.sleep(0.1)
            if self.state != RUNNING or int(port) != AGENT_PORT or "no_agent" in self.told:
                return
            connection.sendall(b"OK %d\n" % next(LOCAL_PORTS))
            self.talk(connection)

    def talk(self, connection: socket.socket) -> None:
        """The guest's agent."""
        buffer = b""
        while True:
            data = connection.recv(65536)
            if not data:
                return
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                request = json.loads(line.lstrip(b"\xff"))
                command, arguments = request["execute"], request.get("arguments") or {}
                if "wild_agent" in self.told and command != "guest-sync-delimited":
                    connection.sendall(b'{"return": [{"name": {"x": "\\u001b[2J"}}]}\n')
                    continue
                answer: dict = {"return": AGENT_ANSWERS.get(command)}
                if command == "guest-sync-delimited":
                    connection.sendall(b"\xff")
                    answer = {"return": arguments["id"]}
                elif command == "guest-get-host-name":
                    answer = {"return": {"host-name": f"guest-of-{self.identity}"}}
                elif command not in AGENT_ANSWERS:
                    words = f"Command {command} has been disabled: the command is not allowed"
                    answer = {"error": {"class": "CommandNotFound", "desc": words}}
                connection.sendall(json.dumps(answer).encode() + b"\n")

    def put_balloon(self, body: dict) -> None:
        if body[balloon_word()] > self.machine["mem_size_mib"]:
            raise Refused("Balloon config error: Amount of pages requested is too large.")
        self.balloon = {"stats_polling_interval_s": 0, "free_page_hinting": False, "free_page_reporting": False, **body}
        self.boot_path = True

    def get_balloon_statistics(self) -> dict:
        if self.state == NOT_STARTED:
            raise Refused(BEFORE_BOOT)
        if self.balloon is None:
            raise Refused(NO_BALLOON)
        if not self.balloon["stats_polling_interval_s"]:
            raise Refused("Internal VMM error: Balloon error: Received stats query when stats are disabled.")
        target = self.balloon[balloon_word()]
        return {
            "target_pages": target * 256,
            "actual_pages": self.ballooned * 256,
            "target_mib": target,
            "actual_mib": self.ballooned,
        }

    def patch_balloon(self, body: dict) -> None:
        if self.balloon is None:
            raise Refused(NO_BALLOON.replace("Internal VMM error", "Balloon update error"))
        if "no_memory_driver" in self.told:
            raise Refused("Balloon update error: Balloon: Device not activated yet.")
        wanted = body[balloon_word()]
        if wanted > self.machine["mem_size_mib"]:
            raise Refused(f"Balloon update error: Balloon: Requested memory should be less than {wanted}MiB")
        self.balloon = {**self.balloon, **body}

        def guest() -> None:
            time.sleep(0.1)
            self.ballooned += (wanted - self.ballooned) // (2 if "takes_half" in self.told else 1)

        threading.Thread(target=guest, daemon=True).start()

    def patch_balloon_statistics(self, body: dict) -> None:
        if self.balloon is None:
            raise Refused(NO_BALLOON.replace("Internal VMM error", "Balloon update error"))
        if bool(body["stats_polling_interval_s"]) != bool(self.balloon["stats_polling_interval_s"]):
            raise Refused("Balloon update error: Balloon: Statistics cannot be enabled/disabled after activation.")
        self.balloon = {**self.balloon, **body}

    def put_pmem(self, body: dict) -> None:
        if self.state != NOT_STARTED:
            self.require_pci("hotplugged")
            if body["id"] in self.pmem:
                raise Refused("Device ID in use")
        try:
            self.backing.append(open(body["path_on_host"], "rb" if body.get("read_only") else "r+b"))  # noqa: SIM115 - as long as the machine
        except OSError as error:
            raise Refused(f"Pmem config error: Error accessing underlying file: {os_error(error)}") from error
        self.pmem[body["id"]] = body
        self.boot_path = True

    def patch_pmem(self, body: dict) -> None:
        if body["id"] not in self.pmem:
            raise Refused(
                "Pmem config error: Unable to patch the pmem device: Failed perform action on device: Device not found "
                "Please verify the request arguments."
            )
        self.pmem[body["id"]].update(body)

    def put_mmds_config(self, body: dict) -> None:
        if not body["network_interfaces"]:
            raise Refused(
                "MMMDS config error: The list of network interface IDs that allow forwarding MMDS requests is empty."
            )
        if not set(body["network_interfaces"]) <= set(self.interfaces):
            raise Refused(
                "MMMDS config error: The list of network interface IDs provided contains at least one ID that does not correspond to any "
                "existing network interface."
            )
        if not body.get("ipv4_address", "169.254.169.254").startswith("169.254."):
            raise Refused("MMMDS config error: The MMDS IPv4 address is not link local.")
        self.mmds_config = {"version": "V1", "ipv4_address": "169.254.169.254", "imds_compat": False, **body}
        self.boot_path = True

    def store(self) -> dict | None:
        """What is in the metadata store; after the start it has to have been configured."""
        if self.mmds_config is None and self.state != NOT_STARTED:
            raise Refused("MMDS error: The MMDS data store is not initialized.")
        return self.mmds

    def put_mmds(self, body: dict) -> None:
        self.store()
        if len(json.dumps(body)) > STORE_LIMIT:
            raise Refused("MMDS limit exceeded error: The MMDS patch request doesn't fit.")
        self.mmds = merged({}, body)

    def patch_mmds(self, body: dict) -> None:
        now = self.store()
        if now is None:
            raise Refused("MMDS error: The MMDS data store is not initialized.")
        self.put_mmds(merged(now, body))

    def put_serial(self, body: dict) -> None:
        if "rate_limiter" in body and version() < (1, 16):
            raise Refused(
                "An error occurred when deserializing the json body of a request: unknown field `rate_limiter`."
            )

    def put_cpu_config(self, body: dict) -> None:
        for modifier in body.get("cpuid_modifiers", ()):
            if not {"leaf", "subleaf", "flags", "modifiers"} <= set(modifier):
                raise Refused("An error occurred when deserializing the json body of a request: missing field.")

    def put_entropy(self, body: dict) -> None:
        self.entropy = body
        self.boot_path = True

    def put_hotplug_memory(self, body: dict) -> None:
        slot, block = body.get("slot_size_mib", 128), body.get("block_size_mib", 2)
        if slot < 128 or slot % block or body["total_size_mib"] % slot or not body["total_size_mib"]:
            raise Refused("Memory hotplug config error: Total size must be a multiple of slot size")
        self.region = {"total_size_mib": body["total_size_mib"], "slot_size_mib": slot, "block_size_mib": block}
        self.boot_path = True

    def put_logger(self, body: dict) -> None:
        path = body.get("log_path")
        self.level = body.get("level", self.level)
        if path:
            flags = os.O_RDWR | os.O_NONBLOCK | (os.O_CREAT if version() >= (1, 14) else 0)
            try:
                self.log = open(os.open(path, flags, 0o600), "w", encoding="utf-8", buffering=1)  # noqa: SIM115
            except OSError as error:
                raise Refused(f"Logger error: Failed to open target file: {os_error(error)}") from error
        self.say(f"[{self.identity}:main] Running Firecracker v{'.'.join(map(str, version()))}")

    def put_metrics(self, body: dict) -> None:
        try:
            with open(body["metrics_path"], "r+b" if version() < (1, 14) else "ab"):
                self.metrics = body["metrics_path"]
        except OSError as error:
            raise Refused(
                f"Metrics error: Cannot initialize the metrics system due to bad user input: {os_error(error)}"
            ) from error

    # --- start, and after ------------------------------------------------------------------------------------------

    def put_actions(self, body: dict) -> None:
        action = body["action_type"]
        rescan = ("BlockDeviceRescan",) if version() < (0, 21) else ()
        if action not in ("InstanceStart", "FlushMetrics", "SendCtrlAltDel", *rescan):
            raise Refused(
                f"An error occurred when deserializing the json body of a request: unknown variant `{action}`."
            )
        if action == "InstanceStart":
            if self.state != NOT_STARTED:
                raise Refused(AFTER_BOOT)
            self.start()
        elif self.state == NOT_STARTED:
            raise Refused(BEFORE_BOOT)
        elif action == "FlushMetrics" and self.metrics:
            with open(self.metrics, "a", encoding="utf-8") as stream:
                print(json.dumps({"utc_timestamp_ms": 0}), file=stream)
        elif action == "SendCtrlAltDel" and self.state == RUNNING and "ignores_keys" not in self.told:
            threading.Thread(target=self.shut_down, daemon=True).start()

    def start(self) -> None:
        if not self.boot_source:
            raise Refused("Start microvm error: Cannot start microvm without kernel configuration.")
        if "refuses_start" in self.told:
            raise Refused("Start microvm error: Kernel loader error: Invalid ELF magic number")
        try:
            for interface in self.interfaces.values():
                self.open_tap(interface["host_dev_name"])
        except Refused as problem:
            raise Refused(f"Start microvm error: {problem}") from problem
        self.state = PAUSED if "starts_paused" in self.told else RUNNING
        self.run_vcpus()
        print("Linux version 6.1.0-double")
        print(f"Command line: {self.boot_source.get('boot_args', '')}")
        print("guest: ready", flush=True)

    def run_vcpus(self) -> None:
        def vcpu(number: int) -> None:
            set_thread_name(f"fc_vcpu {number}" if version() >= (0, 26) else f"fc_vcpu{number}")
            threading.Event().wait()

        for number in range(int(self.machine["vcpu_count"])):
            threading.Thread(target=vcpu, args=(number,), daemon=True).start()

    def shut_down(self) -> None:
        time.sleep(0.05)
        print("reboot: Restarting system", flush=True)
        self.say("Vmm is stopping.")
        os._exit(0)

    def patch_vm(self, body: dict) -> None:
        states = {"Paused": PAUSED, "Resumed": RUNNING}
        if body["state"] not in states:
            raise Refused(
                "An error occurred when deserializing the json body of a request: "
                f"unknown variant `{body['state']}`, expected `Paused` or `Resumed`."
            )
        if body["state"] == "Paused" and "hangs_on_pause" in self.told:
            threading.Event().wait()
        self.state = states[body["state"]]

    def patch_drives(self, body: dict) -> None:
        drive = self.drives.get(body["drive_id"])
        if drive is None:
            raise Refused(f"Drive error: Unable to patch the block device: Device not found: {body['drive_id']}")
        if "path_on_host" not in body and version() < (0, 24):
            raise Refused(
                "An error occurred when deserializing the json body of a request: missing field `path_on_host`."
            )
        if "path_on_host" in body:
            before = self.sizes.get(body["drive_id"])
            self.open_disk(body["path_on_host"], drive.get("is_read_only", False), body["drive_id"])
            now = self.sizes[body["drive_id"]]
            if now != before:
                # What the driver of a Linux guest prints.
                name = f"vd{chr(ord('a') + list(self.drives).index(body['drive_id']))}"
                print(f"virtio_blk: [{name}] new size: {now // 512} 512-byte logical blocks", flush=True)
        drive.update(body)

    def patch_network_interfaces(self, body: dict) -> None:
        if body["iface_id"] not in self.interfaces:
            raise Refused(f"Unable to update the network device: Device not found: {body['iface_id']}")
        self.interfaces[body["iface_id"]].update(body)

    def require_pci(self, what: str) -> None:
        if version() < (1, 16):
            raise Refused(AFTER_BOOT)
        if not self.pci:
            raise Refused(f"Device cannot be {what}: PCI is not enabled")

    def unplug(self, kind: str, name: str) -> None:
        if self.state == NOT_STARTED:
            raise Refused(BEFORE_BOOT)
        self.require_pci("unplugged")
        devices = {"drives": self.drives, "network-interfaces": self.interfaces, "pmem": self.pmem}[kind]
        if name not in devices:
            raise Refused("Device not found")
        if devices[name].get("is_root_device"):
            raise Refused("Cannot unplug root device")
        gone = devices.pop(name)
        if kind == "network-interfaces":
            os.close(self.taps.pop(gone["host_dev_name"]))

    def patch_hotplug_memory(self, body: dict) -> None:
        if self.region is None:
            raise Refused("Memory hotplug error: No virtio-mem device found")
        wanted = body["requested_size_mib"]
        if wanted > self.region["total_size_mib"] or wanted % self.region["block_size_mib"]:
            raise Refused("Memory hotplug update error: Requested size is invalid")
        if "no_memory_driver" in self.told:
            raise Refused("Memory hotplug update error: Unable to update memory hotplug device: Device is not active")
        self.requested = wanted

        def guest() -> None:
            time.sleep(0.1)
            self.plugged = self.plugged + (wanted - self.plugged) // 2 if "takes_half" in self.told else wanted

        threading.Thread(target=guest, daemon=True).start()

    # --- snapshots -------------------------------------------------------------------------------------------------

    def put_snapshot_create(self, body: dict) -> None:
        if self.state != PAUSED:
            raise Refused(
                "Create snapshot error: Cannot save the microVM state: Operation not allowed: save/restore unavailable while running"
            )
        if "snapshot_fails" in self.told:
            with open(body["mem_file_path"], "wb") as stream:
                stream.write(b"half")
            raise Refused("Create snapshot error: Cannot write memory file: No space left on device (os error 28)")
        kept = {
            "version": version(),
            "machine": self.machine,
            "drives": self.drives,
            "interfaces": self.interfaces,
            "vsock": self.vsock,
            "entropy": self.entropy,
            "region": self.region,
            "plugged": self.plugged,
            "requested": self.requested,
            "pci": self.pci,
            "balloon": self.balloon,
            "ballooned": self.ballooned,
            "pmem": self.pmem,
            "mmds_config": self.mmds_config,
        }
        if "file_limit" in self.told:
            self.say(f"[{self.identity}:fc_vmm] Shutting down VM after intercepting signal 25, code 0.", error=True)
            os._exit(151)
        kind = body.get("snapshot_type", "Full")
        if kind not in ("Full", "Diff"):
            raise Refused(
                f"An error occurred when deserializing the json body of a request: unknown variant `{kind}`, expected `Diff` or `Full`."
            )
        with open(body["mem_file_path"], "wb") as stream:
            stream.truncate((int(self.machine["mem_size_mib"]) + self.plugged) << 20)
            # The page that the guest wrote to since the last time.
            stream.seek(4096 * len(self.written))
            stream.write(f"{kind} {self.identity}".encode().ljust(4096, b"."))
        self.written.append(kind)
        with open(body["snapshot_path"], "w", encoding="utf-8") as stream:
            json.dump(kept, stream)

    def put_snapshot_load(self, body: dict) -> None:
        if self.boot_path:
            raise Refused(
                "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources."
            )
        try:
            self.load(body)
        except (OSError, ValueError, KeyError) as error:
            raise Fatal(
                f"Load snapshot error: Failed to restore from snapshot: {os_error(error) if isinstance(error, OSError) else error}"
            ) from error
        except Refused as problem:
            raise Fatal(f"Load snapshot error: Failed to restore from snapshot: {problem}") from problem

    def load(self, body: dict) -> None:
        if body.get("clock_realtime") and "no_realtime" in self.told:
            raise Refused(
                "Failed to build microVM from snapshot: clock_realtime requested but not present in the snapshot state"
            )
        memory = body["mem_backend"]["backend_path"] if version() >= (1, 0) else body["mem_file_path"]
        with open(body["snapshot_path"], encoding="utf-8") as stream:
            kept = json.load(stream)
        for override in body.get("network_overrides", ()):
            if override["iface_id"] not in kept["interfaces"]:
                raise Refused("Failed to get snapshot state from file: Unknown Network Device.")
            kept["interfaces"][override["iface_id"]]["host_dev_name"] = override["host_dev_name"]
        if body.get("vsock_override"):
            if not kept["vsock"]:
                raise Refused("Failed to get snapshot state from file: Unknown Vsock Device.")
            kept["vsock"]["uds_path"] = body["vsock_override"]["uds_path"]
        if os.stat(memory).st_size < kept["machine"]["mem_size_mib"] << 20:
            raise ValueError("Memory file is too short")
        if kept["machine"]["huge_pages"] != "None":
            raise ValueError("Cannot restore hugetlbfs backed snapshot by mapping the memory file. Please use uffd.")
        with open(memory, "rb") as stream:
            self.memory = mmap.mmap(stream.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        if tuple(kept["version"]) != version():
            raise ValueError("Snapshot version is not supported")
        for drive in kept["drives"].values():
            if "path_on_host" in drive:
                self.open_disk(drive["path_on_host"], drive.get("is_read_only", False), drive["drive_id"])
        for drive in kept["pmem"].values():
            self.backing.append(open(drive["path_on_host"], "rb" if drive.get("read_only") else "r+b"))  # noqa: SIM115 - as long as the machine
        for interface in kept["interfaces"].values():
            self.open_tap(interface["host_dev_name"])
        if kept["vsock"]:
            self.bind_vsock(kept["vsock"]["uds_path"])
        self.machine, self.drives, self.interfaces, self.vsock = (
            kept["machine"],
            kept["drives"],
            kept["interfaces"],
            kept["vsock"],
        )
        self.entropy, self.region, self.plugged = kept["entropy"], kept["region"], kept["plugged"]
        self.requested, self.pci = kept["requested"], kept["pci"]
        self.balloon, self.ballooned, self.pmem, self.mmds_config = (
            kept["balloon"],
            kept["ballooned"],
            kept["pmem"],
            kept["mmds_config"],
        )
        self.mmds = {} if self.mmds_config else None
        self.state = RUNNING if body.get("resume_vm") else PAUSED
        self.run_vcpus()

    def say(self, words: str, error: bool = False) -> None:
        """A line of its log: of level Info, or Error."""
        if error or self.level in ("Info", "Debug", "Trace"):
            print(words, file=self.log or sys.stdout, flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection; the server takes them one at a time, as the real API thread does."""

    protocol_version = "HTTP/1.1"
    machine: Machine
    count = 0

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: object) -> None:
        self.machine.say(f"[{self.machine.identity}:fc_api] {format % args}")

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        if length > PAYLOAD_LIMIT:
            problem = (
                f"Request payload with size {length} is larger than the limit of {PAYLOAD_LIMIT} allowed by server."
            )
            self.reply(BAD, {"error": problem + "\nAll previous unanswered requests will be dropped."})
            return
        Handler.count += 1
        if "busy" in self.machine.told and Handler.count % 3 == 0:
            self.reply(503, {"error": "Too many open connections"})
            return
        fatal = False
        try:
            body = json.loads(content) if content else None
        except ValueError as error:
            self.reply(
                BAD, {"fault_message": f"An error occurred when deserializing the json body of a request: {error}."}
            )
            return
        log = os.environ.get("FIRECRACKER_DOUBLE_REQUESTS")
        if log:
            with open(log, "a", encoding="utf-8") as stream:
                stream.write(
                    json.dumps({"method": self.command, "path": self.path, "body": body, "state": self.machine.state})
                    + "\n"
                )
        try:
            result = self.machine.handle(self.command, self.path, body)
            if "nonsense" in self.machine.told and self.machine.state == RUNNING and self.command == "GET":
                self.reply(OK, NONSENSE[Handler.count % len(NONSENSE)], always=True)
                return
            self.reply(NO_CONTENT if result is None else OK, result)
        except Fatal as problem:
            self.reply(BAD, {"fault_message": str(problem)})
            fatal = True
        except Refused as problem:
            self.reply(BAD, {"fault_message": str(problem)})
        if fatal:
            self.wfile.flush()
            os._exit(1)

    do_GET = do_PUT = do_PATCH = do_DELETE = answer

    def reply(self, status: int, value: object, always: bool = False) -> None:
        content = (
            b""
            if value is None and not always
            else json.dumps(value, indent=2 if version() < (0, 22) else None).encode()
        )
        self.send_response(status)
        if content:
            self.send_header("Content-Type", "application/json")
        if status != NO_CONTENT:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(socketserver.UnixStreamServer):
    """The API's socket. It is never unlinked, as the real one never does."""

    request_queue_size = 10
    allow_reuse_address = False


#: Arguments with the number of their values.
ARGUMENTS = {
    "--api-sock": 1,
    "--id": 1,
    "--seccomp-filter": 1,
    "--no-seccomp": 0,
    "--start-time-us": 1,
    "--start-time-cpu-us": 1,
    "--parent-cpu-time-us": 1,
    "--log-path": 1,
    "--level": 1,
    "--show-level": 0,
    "--show-log-origin": 0,
    "--metrics-path": 1,
    "--boot-timer": 0,
    "--version": 0,
    "--snapshot-version": 0,
    "--enable-pci": 0,
    "--http-api-max-payload-size": 1,
    "--mmds-size-limit": 1,
}


def parse(arguments: list[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    position = 0
    while position < len(arguments):
        word = arguments[position]
        count = ARGUMENTS.get(word)
        if count is None or version() < {
            "--enable-pci": (1, 13),
            "--mmds-size-limit": (1, 1),
            "--log-path": (0, 22),
        }.get(word, (0,)):
            print(
                f"Arguments parsing error: Found argument '{word.lstrip('-')}' which wasn't expected, or isn't valid in this context.",
                file=sys.stderr,
            )
            raise SystemExit(153)
        if count and position + 1 >= len(arguments):
            print(
                f"Arguments parsing error: The argument '{word.lstrip('-')}' requires a value, but none was supplied.",
                file=sys.stderr,
            )
            raise SystemExit(153)
        given[word] = arguments[position + 1] if count else ""
        position += 1 + count
    return given


def main(arguments: list[str]) -> int:
    given = parse(arguments)
    words = ".".join(map(str, version()))
    if "--version" in given:
        print(f"Firecracker v{words}\n")
        return 0
    told = faults()
    if "dies_at_once" in told:
        print("Error creating KVM object: Permission denied (os error 13)", file=sys.stderr)
        return 1
    if "never_answers" in told:
        threading.Event().wait()
    if "ignores_sigterm" in told:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    identity = given.get("--id", "anonymous-instance")
    if not re.fullmatch("[A-Za-z0-9-]{1,64}", identity):
        print(f"Invalid instance ID: {identity}", file=sys.stderr)
        return 1
    path = given.get("--api-sock", "/run/firecracker.socket")
    Handler.machine = Machine(identity, "--enable-pci" in given, told)
    if "--log-path" in given:
        Handler.machine.put_logger({"log_path": given["--log-path"], "level": given.get("--level", "Info")})
    global STORE_LIMIT, PAYLOAD_LIMIT
    STORE_LIMIT, PAYLOAD_LIMIT = (
        int(given.get(name, 51200)) for name in ("--mmds-size-limit", "--http-api-max-payload-size")
    )
    try:
        server = Server(path, Handler)
    except OSError:
        print(f"Failed to open the API socket at: {path}. Check that it is not already used.", file=sys.stderr)
        return 1
    os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
