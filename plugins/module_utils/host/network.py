# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's side of a sandbox's network interfaces: taps, macvtaps, bridges and vhost-net descriptors.

A tap is not persistent unless its function says so. The kernel removes it with its last descriptor, so nothing is left over when a VMM dies
(Linux, Documentation/networking/tuntap.rst).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import struct
import time
from typing import Callable, Collection, Iterable

from ..errors import ConfigError, HostError, StateError

TUN_DEVICE = "/dev/net/tun"
VHOST_NET_DEVICE = "/dev/vhost-net"
TUNSETIFF = 0x400454CA
TUNSETPERSIST, TUNSETOWNER, TUNSETGROUP = 0x400454CB, 0x400454CC, 0x400454CE
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 0x0002, 0x1000, 0x4000, 0x0100
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFMTU, SIOCGIFINDEX, SIOCBRADDIF = 0x8913, 0x8914, 0x8922, 0x8933, 0x89A2
IFF_UP = 1
#: The longest name of an interface, bytes.
MAX_NAME = 15
#: Seconds to wait until a process that has ended releases its tap.
RELEASE_SECONDS = 2.0
#: The fix for a missing macvtap interface; not every kernel supports them.
MAKE_MACVTAP = (
    "Create it first, with a kernel that has macvtap: ip link add link PARENT name NAME type macvtap mode bridge."
)


def generated_mac(seed: str) -> str:
    """A locally administered address that is always the same for the same seed."""
    digest = hashlib.sha256(seed.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x52, 0x54, 0x00, *digest[:3]))


def tap_name(sandbox: str, device: str) -> str:
    """The name of the tap of a sandbox's interface, always the same for the same arguments.

    :param sandbox: its unique name on the host (`SandboxLayout.host_name`)
    """
    return "kh" + hashlib.sha256(f"{sandbox}/{device}".encode()).hexdigest()[:12]


def check_name(name: str, option: str = "devices") -> None:
    """Refuse a text that cannot be an interface's name.

    :raises ConfigError: it is empty, too long, or has a slash or a blank
    """
    if not 0 < len(name.encode()) <= MAX_NAME or any(c.isspace() or c in "/:%" for c in name) or name in (".", ".."):
        raise ConfigError(f"must be a name of a network interface (1 to {MAX_NAME} bytes)", option=option, wanted=name)


def exists(name: str) -> bool:
    """Whether an interface has this name."""
    return os.path.isdir(f"/sys/class/net/{name}")


def check_tap(name: str, own: Collection[int] = ()) -> None:
    """Refuse an interface that is not a tap, and a tap that another process has open. A missing tap is accepted. Changes nothing.

    :param own: pids that may open it
    :raises HostError: an interface has this name, and it is not a tap
    :raises StateError: another process has the tap open; the error names it
    """
    check_name(name)
    if not exists(name):
        return
    if not os.path.exists(f"/sys/class/net/{name}/tun_flags"):
        raise HostError("must be a tap interface", option="devices", wanted=name, fix="Choose another tap_name.")
    others = [pid for pid in holders(name) if pid not in own]
    if others:
        from .block_devices import described

        raise StateError(
            f"the tap {name} is in use: {described(others[0])} has it open",
            option="devices",
            wanted=name,
            fix="Stop that process first, or choose another tap_name.",
        )


def open_tap(name: str, queues: int = 1) -> list[int]:
    """Descriptors of a tap, one per queue. The tap is created if it does not exist.

    :raises HostError: the kernel refuses; the error has its message
    """
    check_name(name)
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if queues > 1 else 0)
    descriptors: list[int] = []
    try:
        for _queue in range(queues):
            descriptors.append(os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
            fcntl.ioctl(descriptors[-1], TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError as error:
        close_all(descriptors)
        busy = error.errno == errno.EBUSY
        raise HostError(
            f"the tap {name} cannot be opened",
            option="devices",
            answer=str(error),
            fix="Stop the VM that uses it, or choose another tap_name."
            if busy
            else "The host must have /dev/net/tun (module tun), and the task must run as root.",
        ) from error
    return descriptors


def make_persistent_tap(name: str, uid: int, gid: int) -> None:
    """Create a persistent tap, which stays until `remove_tap`, for a VMM that opens it by name and runs as another user.

    :param uid: of the user who may open it
    :raises HostError: the kernel refuses; the error has its message
    """
    (descriptor,) = open_tap(name)
    try:
        fcntl.ioctl(descriptor, TUNSETOWNER, uid)
        fcntl.ioctl(descriptor, TUNSETGROUP, gid)
        fcntl.ioctl(descriptor, TUNSETPERSIST, 1)
    except OSError as error:
        raise HostError(f"the tap {name} cannot be made persistent", option="devices", answer=str(error)) from error
    finally:
        close_all([descriptor])


def provide_tap(name: str, owner: tuple[int, int], mtu: int, bridge: str, announce: Callable[[str], None]) -> None:
    """Create a persistent tap, add it to its bridge, and set it up. An existing tap belongs to whoever created it, and is used.

    :param owner: uid and gid of the user who may open it
    :param announce: called with the name before a tap is created
    :raises HostError: the kernel refuses; the error has its message
    """
    if not exists(name):
        announce(name)
        make_persistent_tap(name, *owner)
    bring_up(name, mtu, bridge)


def remove_tap(name: str) -> bool:
    """Remove a persistent tap whose VMM has ended. Idempotent. It waits for a process that has just ended and still closes it.

    :returns: False if another process has it open; then it stays
    :raises HostError: it cannot be opened
    """
    deadline = time.monotonic() + RELEASE_SECONDS
    while exists(name):
        try:
            (descriptor,) = open_tap(name)
        except HostError:
            if holders(name):
                return False
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
            continue
        try:
            fcntl.ioctl(descriptor, TUNSETPERSIST, 0)
        finally:
            close_all([descriptor])
    return True


def holders(name: str) -> list[int]:
    """Pids of the processes that have a tap open (Linux, tun_chr_show_fdinfo)."""
    wanted = f"iff:\t{name}\n"
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                # In a jail the device has another path.
                if os.readlink(f"/proc/{pid}/fd/{number}").endswith("/net/tun"):
                    with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii", errors="replace") as stream:
                        if wanted in stream.read(4096):
                            found.append(int(pid))
                            break
    return found


def open_macvtap(name: str, queues: int = 1) -> list[int]:
    """Descriptors of an existing macvtap interface, one per queue.

    :raises HostError: it does not exist, or cannot be opened
    """
    check_name(name)
    descriptors: list[int] = []
    try:
        with open(f"/sys/class/net/{name}/ifindex", encoding="ascii") as stream:
            device = f"/dev/tap{int(stream.read())}"
        for _queue in range(queues):
            descriptors.append(os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
            flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if queues > 1 else 0)
            fcntl.ioctl(descriptors[-1], TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except (OSError, ValueError) as error:
        close_all(descriptors)
        raise HostError(
            f"the macvtap interface {name} cannot be opened",
            option="devices",
            answer=str(error),
            fix=MAKE_MACVTAP,
        ) from error
    return descriptors


def open_vhost_net(count: int) -> list[int]:
    """Descriptors of vhost-net, one per queue.

    :raises HostError: the host does not have vhost-net
    """
    descriptors: list[int] = []
    try:
        for _queue in range(count):
            descriptors.append(os.open(VHOST_NET_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        close_all(descriptors)
        raise HostError(
            "the host must have vhost-net for the option vhost",
            option="devices",
            answer=str(error),
            fix="Load the module vhost_net.",
        ) from error
    return descriptors


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors. Errors are ignored."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def bring_up(name: str, mtu: int = 0, bridge: str = "") -> None:
    """Set an interface's MTU, add it to a bridge, and set it up.

    :raises HostError: the kernel refuses; the error has its message
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            step = "its MTU cannot be set"
            if mtu:
                fcntl.ioctl(control, SIOCSIFMTU, struct.pack("16si20x", name.encode(), mtu))
            step = "its index cannot be read"
            index = struct.unpack("16si20x", fcntl.ioctl(control, SIOCGIFINDEX, struct.pack("16s24x", name.encode())))[
                1
            ]
            if bridge and not _is_port_of(name, bridge):
                step = f"it cannot be added to the bridge {bridge}"
                fcntl.ioctl(control, SIOCBRADDIF, struct.pack("16si20x", bridge.encode(), index))
            step = "it cannot be set up"
            flags = struct.unpack("16sH22x", fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16s24x", name.encode())))[
                1
            ]
            if not flags & IFF_UP:
                fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | IFF_UP))
        except OSError as error:
            raise HostError(f"the interface {name}: {step}", option="devices", answer=str(error)) from error


def check_bridge(name: str) -> None:
    """Refuse a bridge that does not exist.

    :raises HostError: the host has no bridge of that name
    """
    check_name(name)
    if not os.path.isdir(f"/sys/class/net/{name}/bridge"):
        raise HostError(
            f"the host has no bridge {name}",
            option="devices",
            fix="Create it first (role kata_host, or ip link add NAME type bridge).",
        )


def _is_port_of(name: str, bridge: str) -> bool:
    return os.path.isdir(f"/sys/class/net/{bridge}/brif/{name}")
