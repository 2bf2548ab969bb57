# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a VM by what is asked of its QEMU, whichever generation of QEMU the words are for."""

from __future__ import annotations

import copy
import json
from typing import Any, Callable

from adapters.qemu_double import is_vcpu

MIB = 1 << 20


class World:
    """One VM, as it is after the commands that its QEMU has taken.

    :param power: running or paused
    :param vcpus: ids of the vCPUs that were plugged in before
    :param recorded: a text with the recorded paths in the place of ours
    """

    def __init__(self, power: str, vcpus: list[str], recorded: Callable[[str], str] = str) -> None:
        self.power = power
        self.vcpus = list(vcpus)
        self.recorded = recorded
        self.devices: dict[str, dict[str, Any]] = {}
        self.modules: list[tuple[str, int, bool]] = []
        self.nodes: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, dict[str, Any]] = {}
        self.netdevs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, str] = {}
        self.saved: list[str] = []
        self.taken_over = 0
        self.ignores_shared = False

    def facts(self) -> dict[str, Any]:
        """What is there, by name."""
        return copy.deepcopy(
            {
                "power": self.power,
                "plugged_vcpus": len(self.vcpus),
                "modules": sorted((size, shared) for _name, size, shared in self.modules),
                "devices": self.devices,
                "saved": self.saved,
                "taken_over": self.taken_over,
            }
        )

    def follow(self, entries: list[dict[str, Any]]) -> None:
        """Take in commands and their replies: `{send, reply}`; anything else is passed over."""
        for entry in entries:
            request = entry.get("send")
            if not isinstance(request, dict):
                continue
            answer = _answer(str(entry.get("reply") or ""))
            if answer is None or "error" in answer:
                continue
            name = str(request.get("execute")).replace("-", "_")
            act = getattr(self, f"_do_{name}", None)
            if act is not None:
                act(request.get("arguments") or {}, answer.get("return"))

    def _do_stop(self, given: dict[str, Any], found: Any) -> None:
        self.power = "paused"

    def _do_cont(self, given: dict[str, Any], found: Any) -> None:
        self.power = "running"

    def _do_quit(self, given: dict[str, Any], found: Any) -> None:
        self.power = "off"

    def _do_migrate_set_capabilities(self, given: dict[str, Any], found: Any) -> None:
        for one in given.get("capabilities") or ():
            if one.get("capability") == "x-ignore-shared":
                self.ignores_shared = bool(one.get("state"))

    def _do_migrate(self, given: dict[str, Any], found: Any) -> None:
        self.saved.append("without shared memory" if self.ignores_shared else "whole")

    def _do_migrate_incoming(self, given: dict[str, Any], found: Any) -> None:
        self.taken_over += 1

    def _do_add_fd(self, given: dict[str, Any], found: Any) -> None:
        if isinstance(found, dict):
            self.files[f"/dev/fdset/{found.get('fdset-id')}"] = str(given.get("opaque", "")).partition(" ")[2]

    def _do_blockdev_add(self, given: dict[str, Any], found: Any) -> None:
        node = given.get("options") or given
        file = node.get("file")
        path = str(file.get("filename")) if isinstance(file, dict) else ""
        name = str(node.get("node-name") or node.get("id"))
        self.nodes[name] = {"file": self.recorded(self.files.get(path, path)), "cache": node.get("cache")}

    def _do_object_add(self, given: dict[str, Any], found: Any) -> None:
        self.objects[str(given.get("id"))] = {**given, **(given.get("props") or {})}

    def _do_netdev_add(self, given: dict[str, Any], found: Any) -> None:
        queues = len(str(given.get("fds", "")).split(":"))
        self.netdevs[str(given.get("id"))] = {"queues": queues, "vhost": given.get("vhost") in ("on", True)}

    def _do_device_add(self, given: dict[str, Any], found: Any) -> None:
        driver, name = str(given.get("driver")), str(given.get("id"))
        place = f"{given['bus']}/{given['addr']}" if "bus" in given and "addr" in given else ""
        if is_vcpu(given):
            self.vcpus.append(name)
        elif driver == "pc-dimm":
            backend = self.objects.get(str(given.get("memdev")), {})
            self.modules.append((name, int(backend.get("size") or 0) // MIB, bool(backend.get("share"))))
        elif driver == "scsi-hd":
            place = f"SCSI {given.get('scsi-id')}:{given.get('lun')}"
            self.devices[_own(name)] = {"disk": place, **self.nodes.get(str(given.get("drive")), {})}
        elif driver.startswith("virtio-blk"):
            self.devices[_own(name)] = {"disk": place, **self.nodes.get(str(given.get("drive")), {})}
        elif driver.startswith("virtio-net"):
            backend = self.netdevs.get(str(given.get("netdev")), {})
            self.devices[_own(name)] = {"interface": place, "mac": given.get("mac"), **backend}
        elif driver.startswith("vfio"):
            self.devices[_own(name)] = {"host device": given.get("host") or given.get("sysfsdev"), "place": place}
        else:
            self.devices[_own(name)] = {"device": driver}

    def _do_device_del(self, given: dict[str, Any], found: Any) -> None:
        name = str(given.get("id"))
        if name in self.vcpus:
            self.vcpus.remove(name)
        self.modules = [module for module in self.modules if module[0] != name]
        self.devices.pop(_own(name), None)


def _own(name: str) -> str:
    """A device's own id, without what the generations put before it."""
    for prefix in ("virtio-", "dev-", "nvdimm"):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _answer(reply: str) -> dict[str, Any] | None:
    """The first line of a reply that is one."""
    for line in reply.split("\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and ("return" in value or "error" in value):
            return value
    return None
