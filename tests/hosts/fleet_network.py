# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks of throw-away hosts: each host has a network namespace of its own, so that no bridge, route or rule of it is one of this machine.

All hosts of a fleet, and a namespace that is the rest of the world for them, are on one bridge in that last namespace. There is no way from
there to this machine but two relays, which are processes: one takes connections to the host's loopback address of this machine, for ssh; the
other is a proxy for apt, with which hosts get packages.

    fleet_network.py ssh ADDRESS NAMESPACE     relay ADDRESS:22 of this machine to port 22 in the namespace
    fleet_network.py proxy NAMESPACE ADDRESS   an HTTP proxy on ADDRESS in the namespace, which connects from this machine
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse

from debian_base import FleetError

#: Networks for documentation (RFC 5737, RFC 3849): no route of this machine leads there.
WORLD, WORLD6 = "198.51.100.1", "2001:db8:200::1"
PROXY_PORT = 3128
BRIDGE = "fleet"
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*words: str, check: bool = True) -> None:
    """Run ip."""
    done = subprocess.run(
        ["ip", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if check and done.returncode:
        raise FleetError(f"ip {' '.join(words)}: {done.stdout.decode(errors='replace')}")


def namespace_of(directory: pathlib.Path, name: str) -> str:
    """The name of a namespace on this machine, which no other fleet has."""
    return f"fleet-{os.stat(directory).st_ino}-{name}"


def world_of(directory: pathlib.Path) -> str:
    """The namespace that is the rest of the world for a fleet's hosts. No host has this name, since it has no letter."""
    return namespace_of(directory, "0")


def make_world(directory: pathlib.Path) -> None:
    """Create the rest of the world with its bridge and its proxy, unless it exists."""
    world = world_of(directory)
    if os.path.exists(f"/run/netns/{world}"):
        return
    ip("netns", "add", world)
    ip("-n", world, "link", "set", "lo", "up")
    ip("-n", world, "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
    ip("-n", world, "address", "add", f"{WORLD}/24", "dev", BRIDGE)
    ip("-n", world, "-6", "address", "add", f"{WORLD6}/64", "dev", BRIDGE, "nodad")
    ip("-n", world, "link", "set", BRIDGE, "up")
    start(directory / "proxy.pid", directory / "proxy.log", "proxy", world, WORLD)


def make_host(host: pathlib.Path) -> str:
    """Create the namespace of a host, new and empty but for its interface, as after a boot. Returns its name."""
    directory, number = host.parent, int((host / "number").read_text())
    world, own = world_of(directory), namespace_of(directory, host.name)
    remove_host(host)
    ip("netns", "add", own)
    ip("-n", own, "link", "set", "lo", "up")
    ip("-n", world, "link", "add", f"host{number}", "type", "veth", "peer", "name", "eth0", "netns", own)
    ip("-n", world, "link", "set", f"host{number}", "master", BRIDGE, "up")
    ip("-n", own, "address", "add", f"{address_of(host)}/24", "dev", "eth0")
    ip("-n", own, "-6", "address", "add", f"2001:db8:200::{number:x}/64", "dev", "eth0", "nodad")
    ip("-n", own, "link", "set", "eth0", "up")
    ip("-n", own, "route", "add", "default", "via", WORLD)
    ip("-n", own, "-6", "route", "add", "default", "via", WORLD6)
    return own


def address_of(host: pathlib.Path) -> str:
    """The address of a host in its network."""
    return f"198.51.100.{(host / 'number').read_text()}"


def remove_host(host: pathlib.Path) -> None:
    """Remove the namespace of a host. Idempotent. The interface goes first, since a namespace goes later than its name."""
    number = (host / "number").read_text() if (host / "number").exists() else ""
    if number:
        ip("-n", world_of(host.parent), "link", "delete", f"host{number}", check=False)
    remove_namespace(namespace_of(host.parent, host.name))


def remove_world(directory: pathlib.Path) -> None:
    """Remove the rest of the world, and end the proxy. Idempotent."""
    end(directory / "proxy.pid")
    remove_namespace(world_of(directory))


def remove_namespace(name: str) -> None:
    """Remove a namespace and kill what still runs in it. Idempotent."""
    if not os.path.exists(f"/run/netns/{name}"):
        return
    found = subprocess.run(["ip", "netns", "pids", name], stdout=subprocess.PIPE, text=True, check=False).stdout
    for pid in found.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    ip("netns", "delete", name)


# --- relays ----------------------------------------------------------------------------------------------------------


def start(pid_file: pathlib.Path, log: pathlib.Path, *arguments: str) -> None:
    """Start a relay, and wait until it listens."""
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
            start_new_session=True,
        )
    pid_file.write_text(str(process.pid))
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise FleetError(f"{' '.join(arguments)}: {log.read_text(errors='replace')}")


def end(pid_file: pathlib.Path) -> None:
    """End a relay. Idempotent."""
    if pid_file.exists():
        pid = int(pid_file.read_text())
        command = pathlib.Path(f"/proc/{pid}/cmdline")
        with contextlib.suppress(OSError):
            if __file__.encode() in command.read_bytes():
                os.kill(pid, signal.SIGKILL)
        pid_file.unlink()


def enter(namespace: str) -> None:
    """Move this thread into a network namespace."""
    with open(namespace, "rb") as stream:
        if _libc.setns(stream.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"{namespace}: {os.strerror(ctypes.get_errno())}")


def listen(address: str, port: int) -> socket.socket:
    """A socket that listens, in the namespace of this thread."""
    return socket.create_server((address, port), backlog=100)


def relay_ssh(address: str, namespace: str) -> None:
    """Take connections on this machine, and connect each in the namespace that has the name at that moment."""
    server = listen(address, 22)
    print("ready", flush=True)

    def serve(client: socket.socket) -> None:
        try:
            enter(f"/run/netns/{namespace}")
            there = socket.create_connection(("127.0.0.1", 22), timeout=10)
        except OSError:
            client.close()
            return
        pump(client, there)

    while True:
        threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()


def serve_proxy(namespace: str, address: str) -> None:
    """An HTTP proxy. One request a connection is enough for apt."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    enter(f"/run/netns/{namespace}")
    server = listen(address, PROXY_PORT)
    if _libc.setns(own, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "the namespace of this machine")
    print("ready", flush=True)

    def serve(client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            head = b""
            while b"\r\n\r\n" not in head and len(head) < 65536:
                piece = client.recv(65536)
                if not piece:
                    break
                head += piece
            first, _end, rest = head.partition(b"\r\n")
            method, target, version = first.decode("ascii").split()
            if method == "CONNECT":
                name, _colon, port = target.rpartition(":")
                there = socket.create_connection((name, int(port)), timeout=30)
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                url = urllib.parse.urlsplit(target)
                there = socket.create_connection((url.hostname or "", url.port or 80), timeout=30)
                path = urllib.parse.urlunsplit(("", "", url.path or "/", url.query, ""))
                fields = [
                    line for line in rest.split(b"\r\n") if not line.lower().startswith((b"connection:", b"proxy-"))
                ]
                line = f"{method} {path} {version}\r\nConnection: close\r\n".encode()
                there.sendall(line + b"\r\n".join(fields))
            pump(client, there)
            return
        client.close()

    while True:
        threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()


def pump(one: socket.socket, other: socket.socket) -> None:
    """Copy bytes in both directions until both ends are closed."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    one.settimeout(None)
    other.settimeout(None)
    back = threading.Thread(target=copy, args=(other, one), daemon=True)
    back.start()
    copy(one, other)
    back.join()
    one.close()
    other.close()


if __name__ == "__main__":
    if sys.argv[1] == "ssh":
        relay_ssh(*sys.argv[2:])
    else:
        serve_proxy(*sys.argv[2:])
