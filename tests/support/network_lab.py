# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host, guests and the rest of the world as network namespaces, so that no packet of a test leaves the machine.

The host is a network namespace, with `/run` and `/sys` of its own for everything that runs there. A guest is a network namespace whose interface
is a veth; its other end is in the host, has the name of the sandbox's tap, and is a port of the bridge. Nothing else is different for the rules.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import traceback
from typing import Any, Callable, Iterator, Sequence

from ansible_collections.kata.hypervisor.plugins.module_utils.host.network import generated_mac, tap_name
from ansible_collections.kata.hypervisor.plugins.module_utils.options.network_options import parse_egress, parse_ports
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.definition import (
    Definition,
    Network,
    make_definition,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.lease import Lease, LeaseRequest

from .waiting import wait_until

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()

#: The world's addresses (RFC 5737, RFC 3849), and those of the host towards it.
WORLD, WORLD6 = "198.51.100.2", "2001:db8:100::2"
HOST, HOST6 = "198.51.100.1", "2001:db8:100::1"
#: Other addresses of the world, for egress rules.
OTHER, OTHER6 = "203.0.113.10", "2001:db8:113::10"

#: Answers each connection and each datagram with the address that it came from.
SERVER = """
import socket, sys, threading
address, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
server = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if family == socket.AF_INET6:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
server.bind((address, port))
if kind == "tcp":
    server.listen(20)
print("ready", flush=True)
def serve(connection, peer):
    connection.sendall(peer[0].encode())
    while connection.recv(100):
        connection.sendall(b"more")
while True:
    if kind == "tcp":
        threading.Thread(target=serve, args=server.accept(), daemon=True).start()
    else:
        data, peer = server.recvfrom(2000)
        print("got", peer[0], data.decode("latin-1"), flush=True)
        server.sendto(peer[0].encode(), peer)
"""
#: Prints what a server answers, or why there is no answer.
CLIENT = """
import socket, sys
address, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
client.settimeout(float(sys.argv[4]))
try:
    client.connect((address, port))
    if kind == "udp":
        client.send(b"hello")
    print(client.recv(100).decode())
except TimeoutError:
    print("timeout")
except OSError as problem:
    print(type(problem).__name__)
"""
#: Sends Ethernet frames as they are, given in hexadecimal digits.
SENDER = """
import socket, sys
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
for frame in sys.argv[1:]:
    link.send(bytes.fromhex(frame))
"""


class Failed(AssertionError):
    """Something raised an error in a namespace."""


class Namespace:
    """A network namespace and the processes in it.

    :param existing: it was created by another program, which also removes it
    """

    def __init__(self, name: str, existing: bool = False) -> None:
        self.name = name
        if not existing:
            ip("netns", "add", name)
            self.ip("link", "set", "lo", "up")
            # An IPv6 address works at once.
            self.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        self.servers: dict[tuple[str, int, str], subprocess.Popen[str]] = {}

    def ip(self, *words: str) -> str:
        """Run ip in the namespace."""
        return ip("-n", self.name, *words)

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a program in the namespace. Returns its output."""
        found = subprocess.run(["ip", "netns", "exec", self.name, *argv], capture_output=True, text=True, check=False)
        if check and found.returncode:
            raise Failed(f"{argv}: {found.stdout}{found.stderr}")
        return found.stdout + found.stderr

    def serve(self, address: str, port: int, kind: str = "tcp") -> None:
        """Start a server that answers with the address of its client."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, sys.executable, "-c", SERVER, address, str(port), kind],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        self.servers[address, port, kind] = process

    def ask(self, address: str, port: int, kind: str = "tcp", seconds: float = 1.0) -> str:
        """What a server answers: the address that it sees; `timeout`, or the name of the error."""
        return self.run(sys.executable, "-c", CLIENT, address, str(port), kind, str(seconds)).strip()

    def send(self, *frames: bytes) -> None:
        """Send Ethernet frames by eth0."""
        self.run(sys.executable, "-c", SENDER, *(frame.hex() for frame in frames))

    def wait_for_link(self, name: str) -> None:
        """Wait until the kernel has processed that an interface is up, which it does once a second."""
        wait_until(lambda: "state UP" in self.ip("link", "show", "dev", name), f"{name} is up")

    def remove(self) -> None:
        """Kill all processes in the namespace, and remove it."""
        for process in self.servers.values():
            process.kill()
            process.wait()
        for pid in subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False
        ).stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        ip("netns", "delete", self.name)


def ip(*words: str) -> str:
    """Run ip on the machine."""
    found = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if found.returncode:
        raise Failed(f"ip {' '.join(words)}: {found.stderr}")
    return found.stdout


class NetworkLab:
    """One host, the world, and guests.

    :param place: a directory for the host's `/run` and its state
    :param br_netfilter: frames between ports of a bridge pass the rules of the family inet too, as on hosts with docker, if the kernel can do that
    """

    def __init__(self, place: pathlib.Path, br_netfilter: bool = False) -> None:
        self.state_root = str(place / "state")
        self.place = place
        # Another task may have created the directory first, for its user only.
        (place / "run/kata-hypervisor").mkdir(mode=0o700, parents=True)
        (place / "state").mkdir()
        self.prefix = f"kata{os.getpid()}-{next(_numbers)}-"
        self.namespaces: list[Namespace] = []
        self.guests: dict[str, Namespace] = {}
        self.host = self._namespace("host")
        self.world = self._namespace("world")
        for name in ("iptables", "ip6tables", "arptables"):
            if os.path.exists(f"/proc/sys/net/bridge/bridge-nf-call-{name}"):
                self.host.run("sysctl", "-qw", f"net.bridge.bridge-nf-call-{name}={int(br_netfilter)}")
        self._connect()

    def _namespace(self, name: str) -> Namespace:
        made = Namespace(self.prefix + name)
        self.namespaces.append(made)
        return made

    def _connect(self) -> None:
        self.host.ip("link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", self.world.name)
        for namespace, link, addresses in (
            (self.host, "uplink", (f"{HOST}/24", f"{HOST6}/64")),
            (self.world, "eth0", (f"{WORLD}/24", f"{WORLD6}/64", f"{OTHER}/32", f"{OTHER6}/128")),
        ):
            for address in addresses:
                namespace.ip("address", "add", address, "dev", link, *(("nodad",) if ":" in address else ()))
            namespace.ip("link", "set", link, "up")
        self.host.wait_for_link("uplink")
        self.world.wait_for_link("eth0")
        self.host.ip("route", "add", "default", "via", WORLD)
        self.host.ip("-6", "route", "add", "default", "via", WORLD6)

    # --- code that runs on the host ----------------------------------------------------------------------------------

    def on_host(self, work: Callable[[], Any], before: Callable[[], Any] = lambda: None) -> Any:
        """Call a function in the host. Returns its result; what it raises is raised here.

        :param before: called first, in the same process
        """
        code, data = self.exit_of(work, before)
        if not data:
            raise Failed(f"the process ended with {code}")
        kind, value = pickle.loads(data)
        if kind == "problem":
            raise value
        return value

    def exit_of(self, work: Callable[[], Any], before: Callable[[], Any] = lambda: None) -> tuple[int, bytes]:
        """Call a function in the host. Returns the exit code of the process, and its pickled result."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = 99
            try:
                os.close(reading)
                self.enter()
                before()
                answer: tuple[str, Any]
                try:
                    answer = ("result", work())
                except Exception as problem:
                    answer = ("problem", problem)
                try:
                    data = pickle.dumps(answer)
                except Exception:
                    data = pickle.dumps(("problem", Failed("".join(traceback.format_exc()) + repr(answer))))
                with open(writing, "wb") as stream:
                    stream.write(data)
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        with open(reading, "rb") as stream:
            data = stream.read()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), data

    def enter(self) -> None:
        """Make this process one of the host: its network, and mounts of its own."""
        with open(f"/run/netns/{self.host.name}", "rb") as stream:
            _checked(_libc.setns(stream.fileno(), CLONE_NEWNET))
        _checked(_libc.unshare(CLONE_NEWNS))
        _checked(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
        _checked(_libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None))
        _checked(_libc.mount(str(self.place / "run").encode(), b"/run", None, MS_BIND, None))

    # --- networks and guests -----------------------------------------------------------------------------------------

    def network(self, name: str = "lab", subnet: str = "10.9.0.0/24", **options: Any) -> Network:
        """A network; nothing is created."""
        definition: Definition = make_definition(name, subnet, **options)
        return Network(definition, self.state_root)

    def request(self, name: str, **options: Any) -> LeaseRequest:
        """A request of a sandbox, with options as in a task."""
        for option, parse in (("ports", parse_ports), ("egress", parse_egress)):
            if option in options:
                options[option] = parse(options[option])
        return LeaseRequest(name, name, tap_name(name, "eth0"), generated_mac(name), **options)

    def guest(self, lease: Lease, addresses: bool = True) -> Namespace:
        """A guest on the bridge, with its addresses unless a DHCP client is to get them."""
        guest = self._namespace(lease.id)
        self.guests[lease.id] = guest
        tap = ("link", "add", lease.tap, "type", "veth", "peer", "name", "eth0", "address", lease.mac)
        self.host.ip(*tap, "netns", guest.name)
        self.host.ip("link", "set", lease.tap, "master", lease.bridge, "up")
        if addresses:
            guest.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=0")
            guest.ip("address", "add", f"{lease.ipv4}/{lease.prefix}", "dev", "eth0")
            if lease.ipv6:
                guest.ip("address", "add", f"{lease.ipv6}/{lease.prefix6}", "dev", "eth0", "nodad")
        guest.ip("link", "set", "eth0", "up")
        guest.wait_for_link("eth0")
        self.host.wait_for_link(lease.tap)
        self.host.wait_for_link(lease.bridge)
        if addresses:
            guest.ip("route", "add", "default", "via", lease.gateway)
            if lease.ipv6:
                guest.ip("-6", "route", "add", "default", "via", lease.gateway6)
        return guest

    def host_state(self) -> dict[str, Any]:
        """Everything that a network could leave on the host: interfaces, rules, processes, settings, files."""
        settings = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/uplink/accept_ra")
        commands = [
            "ip -j link",
            "ip -j address",
            "ip -4 route; ip -6 route",
            "nft -s list ruleset",
            *(f"cat /proc/sys/{name}" for name in settings),
        ]
        # One program is much faster than eight.
        links, addresses, routes, rules, *values = self.host.run("sh", "-c", "; echo ======;".join(commands)).split(
            "======\n"
        )
        return {
            "links": sorted(link["ifname"] for link in json.loads(links)),
            "addresses": sorted(
                f"{link['ifname']} {one['local']}" for link in json.loads(addresses) for one in link["addr_info"]
            ),
            "routes": sorted(routes.splitlines()),
            "rules": rules,
            "processes": sorted(self.processes()),
            "settings": dict(zip(settings, (value.strip() for value in values))),
            "state": sorted(str(path.relative_to(self.place)) for path in (self.place / "state").rglob("*")),
            "run": sorted(
                str(path.relative_to(self.place))
                for path in (self.place / "run").rglob("*")
                if path.name not in ("kata-hypervisor", ".networks", "lock") and not path.name.startswith("engine-")
            ),
        }

    def processes(self) -> list[str]:
        """The names of the programs that run in the host and are no zombies."""
        names = []
        for pid in ip("netns", "pids", self.host.name).split():
            with contextlib.suppress(OSError):
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
                if "\nState:\tZ" not in status:
                    names.append(status.split("\n", 1)[0].split("\t")[1])
        return names

    def wait_for_names(self, network: Network, name: str, address: str) -> None:
        """Wait until the network's DNS answers with an address."""
        wait_until(lambda: address in self.resolve(self.host, name, network.definition.gateway), f"{name} resolves")

    @staticmethod
    def resolve(namespace: Namespace, name: str, server: str) -> Sequence[str]:
        """The addresses of a name, as a server answers."""
        answer = namespace.run("busybox", "nslookup", name, server, check=False)
        # The first address is the server's.
        return [line.split()[-1] for line in answer.splitlines() if line.startswith("Address")][1:]

    def remove(self) -> None:
        """Remove all namespaces."""
        for namespace in reversed(self.namespaces):
            namespace.remove()


@contextlib.contextmanager
def network_lab(place: pathlib.Path, br_netfilter: bool = False) -> Iterator[NetworkLab]:
    """A lab that is removed afterwards."""
    lab = NetworkLab(place, br_netfilter)
    try:
        yield lab
    finally:
        lab.remove()


def _checked(answer: int) -> None:
    if answer:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
