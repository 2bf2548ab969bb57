# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for ACRN's device model: its arguments, as strictly as the real one takes them, with its exit codes; and a VM that is not there.

ACRN_DOUBLE_VERSION  the version to be, 3.4 when not given; up to 2.5 a VM may have a UUID, later it has none
ACRN_DOUBLE_MANAGER  directory in which the stand-in for acrnctl finds the VM (the real ones use /run/acrn/mngr)
ACRN_DOUBLE_FAULTS   words out of FAULTS, separated by commas
"""

from __future__ import annotations

import getopt
import json
import os
import re
import signal
import socket
import sys
import time

FAULTS = {
    "no_hsm": "the hypervisor's device cannot be opened",
    "never_up": "the VM never comes up",
    "slow": "the VM comes up after a second",
    "ignores_sigint": "SIGINT does nothing",
    "dies_later": "it ends a moment after the VM came up",
}
USAGE, BAD_SIZE = 1, 64
DEVICES = (
    "hostbridge",
    "lpc",
    "virtio-console",
    "virtio-blk",
    "virtio-net",
    "passthru",
    "virtio-rnd",
    "virtio-gpio",
    "virtio-vsock",
)
LONG = [
    "ovmf=",
    "cpu_affinity=",
    "lapic_pt",
    "rtvm",
    "ssram",
    "debugexit",
    "enable_trusty",
    "virtio_poll=",
    "vtpm2=",
    "cmd_monitor=",
    "windows",
]


def version() -> tuple[int, ...]:
    return tuple(int(part) for part in os.environ.get("ACRN_DOUBLE_VERSION", "3.4").split("."))


def usage() -> int:
    print(
        "usage: acrn-dm [-hYv] [-B bootargs] [-E elf_image_path] [-k kernel_image_path] [-m mem] [-s pci] <vmname>",
        file=sys.stderr,
    )
    return USAGE


def parse(arguments: list[str]) -> tuple[dict[str, str], list[str], str] | int:
    by_uuid = version() < (2, 6)
    letters = "AhYvWE:k:r:B:p:G:l:m:s:i:" + ("U:c:" if by_uuid else "")
    try:
        options, rest = getopt.getopt(arguments, letters, LONG)
    except getopt.GetoptError as error:
        print(f"acrn-dm: {error}", file=sys.stderr)
        return usage()
    given: dict[str, str] = {}
    slots: list[str] = []
    for name, value in options:
        if name == "-s":
            slots.append(value)
        elif name in given:
            return usage()
        given[name] = value
    if "-v" in given:
        words = ".".join(map(str, version()))
        if version() < (3, 2):
            print(f"DM version is: {words}-stable-double (daily tag:none), build by double@2026-01-01 00:00:00")
        else:
            print(f"DM: {words}-stable-2025-01-01-00:00:00-double build by double@2026-01-01 00:00:00")
        return 0
    if "-A" in given and not by_uuid:
        print("The '-A' parameter is obsolete and ignored", file=sys.stderr)
    if not re.fullmatch(r"[0-9]+[kKmMgGbB]?", given.get("-m", "256M")):
        print(f"invalid memsize '{given['-m']}'", file=sys.stderr)
        return BAD_SIZE
    if len(rest) != 1:
        return usage()
    if not by_uuid and len(rest[0]) > 15:
        print(f"vmname size exceed 15: {rest[0]}", file=sys.stderr)
        return USAGE
    return given, slots, rest[0]


def open_devices(slots: list[str]) -> dict[str, str] | None:
    """The disks by slot; None when a device is wrong."""
    disks: dict[str, str] = {}
    taken = set()
    for text in slots:
        place, _comma, rest = text.partition(",")
        kind, _comma, value = rest.partition(",")
        if (
            not re.fullmatch(r"\d+(:\d+){0,2}", place)
            or int(place.split(":")[0]) > 31
            or kind not in DEVICES
            or place in taken
        ):
            print(f"Invalid slot or device: {text}", file=sys.stderr)
            return None
        taken.add(place)
        if kind == "virtio-blk":
            path, *options = value.split(",")
            if any(option not in ("ro", "nocow", "writethru", "writeback") for option in options):
                print(f"Invalid device option {options}", file=sys.stderr)
                return None
            if path != "nodisk" and not os.path.exists(path):
                print(f"Could not open backing file: {path}: No such file or directory", file=sys.stderr)
                return None
            disks[place.split(":")[0]] = path
        if kind == "virtio-console":
            found = re.fullmatch(r"@?socket:[^=]+=([^:]+)(:server|:client)?", value)
            if not found:
                print(f"virtio-console: invalid port {value}", file=sys.stderr)
                return None
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(found[1])
            listener.listen(1)
            LISTENERS.append(listener)
        if kind == "virtio-net" and version() >= (2, 6) and not re.match(r"(tap|macvtap)=|[^=,]+$", value):
            print(f"virtio-net: invalid device {value}", file=sys.stderr)
            return None
    return disks


LISTENERS: list[socket.socket] = []


def main() -> int:
    parsed = parse(sys.argv[1:])
    if isinstance(parsed, int):
        return parsed
    given, slots, name = parsed
    faults = set(filter(None, os.environ.get("ACRN_DOUBLE_FAULTS", "").split(",")))
    disks = open_devices(slots)
    if disks is None:
        return USAGE
    for option in ("-k", "-r", "-E"):
        if option in given and not os.path.exists(given[option]):
            print(f"SW_LOAD ERR: could not open {given[option]}", file=sys.stderr)
            return USAGE
    if "no_hsm" in faults:
        print("Could not open /dev/acrn_vhm", file=sys.stderr)
        return USAGE
    ended = []
    signal.signal(signal.SIGINT, signal.SIG_IGN if "ignores_sigint" in faults else lambda *_: ended.append(True))
    manager = os.environ.get("ACRN_DOUBLE_MANAGER", "/run/acrn/mngr")
    os.makedirs(manager, exist_ok=True)
    entry = os.path.join(manager, f"{name}.json")
    if "slow" in faults:
        time.sleep(1)
    if "never_up" not in faults:
        with open(entry + ".new", "w", encoding="utf-8") as stream:
            json.dump({"pid": os.getpid(), "disks": disks}, stream)
        os.replace(entry + ".new", entry)
    print(f"Linux version 6.1.0-double\nCommand line: {given.get('-B', '')}\nguest: ready", flush=True)
    if "dies_later" in faults:
        time.sleep(0.5)
        ended.append(True)
    while not ended:
        signal.pause()
    if os.path.exists(entry):
        os.unlink(entry)
    return 0


if __name__ == "__main__":
    sys.exit(main())
