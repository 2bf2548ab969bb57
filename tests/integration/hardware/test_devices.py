# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices that take a host's hardware, and KVM: on a host that has them, with guests that say what they see."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import time
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from tests.support.guest_shell import GuestShell
from tests.support.hardware_host import CARD, CARD_ADDRESS, DISK, DISK_CONTENT, LAN, NEIGHBOURS
from tests.support.qemu_lab import QemuLab

PCI = pathlib.Path("/sys/bus/pci/devices")
PATIENCE = 300
#: The host's address in the network of its cards, and the guest's.
HOST_IP, GUEST_IP = "192.0.2.1", "192.0.2.2"
OWN_DRIVER = {CARD: "e1000e", DISK: "nvme", NEIGHBOURS[0]: "e1000", NEIGHBOURS[1]: "e1000"}
CID = 77
#: Options of a new sandbox.
KVM = {
    "accelerator": "kvm",
    "memory_mb": 256,
    "start_timeout": PATIENCE,
    "wait_for": {"console": "kata-guest: ready", "timeout": 3 * PATIENCE},
}
UNBOOTED = {**KVM, "wait_for": "running"}


@pytest.fixture(scope="module")
def vm(shared_lab: QemuLab) -> Iterator[QemuLab]:
    """One VM under KVM for all devices that are plugged in; and the host's own card has its address."""
    network = interface_of(LAN)
    subprocess.run(["ip", "address", "add", f"{HOST_IP}/24", "dev", network], check=True)
    subprocess.run(["ip", "link", "set", network, "up"], check=True)
    shared_lab.start(max_vcpus=3, max_memory_mb=768, bridges=1, root_ports=2, **KVM)
    shared_lab.guest = shared_lab.shell()
    yield shared_lab


@pytest.fixture(autouse=True)
def nothing_plugged_in(vm: QemuLab) -> Iterator[None]:
    """Each test ends without devices, also one that failed."""
    yield
    vm.run(devices=[])


def eventually(what: Callable[[], Any], seconds: float = PATIENCE / 5) -> Any:
    """Ask until there is an answer."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            answer = what()
            if answer:
                return answer
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def driver_of(address: str) -> str:
    """The driver that a PCI device of the host is bound to."""
    link = PCI / address / "driver"
    return link.resolve().name if link.exists() else ""


def interface_of(address: str) -> str:
    """The network interface of a card of the host."""
    found: str = eventually(
        lambda: [path.name for pattern in ("net/*", "virtio*/net/*") for path in (PCI / address).glob(pattern)]
    )[0]
    return found


def bind(drivers: dict[str, str]) -> None:
    """Have drivers take PCI devices, as an administrator would: a group's devices change hands together."""
    for address, driver in drivers.items():
        (PCI / address / "driver_override").write_text(driver)
        if driver_of(address):
            (PCI / address / "driver" / "unbind").write_text(address)
    for address in drivers:
        pathlib.Path("/sys/bus/pci/drivers_probe").write_text(address)
    assert {address: driver_of(address) for address in drivers} == drivers


@contextlib.contextmanager
def given_away(*addresses: str) -> Iterator[None]:
    """Devices bound to vfio-pci, and to their own driver again after that."""
    bind(dict.fromkeys(addresses, "vfio-pci"))
    try:
        yield
    finally:
        bind({address: OWN_DRIVER[address] for address in addresses})


def vfio(identity: str, address: str) -> dict[str, str]:
    return {"id": identity, "type": "vfio", "address": address}


def devices(vm: QemuLab, *wanted: dict[str, Any]) -> list[str]:
    """Converge the list of devices twice, the second time for nothing; the actions of the first."""
    result = vm.run(devices=list(wanted))
    again = vm.run(devices=list(wanted))
    assert again["changed"] is False and again["actions"] == []
    actions: list[str] = result["actions"]
    return actions


def reaches_the_host(guest: GuestShell, interface: str = "eth0", host: str = HOST_IP, address: str = GUEST_IP) -> None:
    """Packets of more than one page go both ways over an interface of the guest's."""
    guest.run(f"ip address add {address}/24 dev {interface}; ip link set {interface} up")
    guest.eventually(f"ping -c 2 -s 1400 -W 2 {host}", " 0% packet loss", PATIENCE)


def neighbour_at(address: str, interface: str) -> str:
    """The MAC address that the host knows a neighbour by."""
    return subprocess.run(
        ["ip", "neighbour", "show", address, "dev", interface], check=True, capture_output=True, text=True
    ).stdout


def test_kvm_runs_the_guest_and_takes_vcpus_out_of_it(vm: QemuLab) -> None:
    assert vm.made["sandbox"]["accelerator"] == "kvm"
    assert "Hypervisor detected: KVM" in vm.guest.run("dmesg")
    assert vm.run(vcpus=3)["sandbox"]["vcpus"] == 3
    vm.guest.eventually("nproc", "^3$", PATIENCE)
    assert vm.run(vcpus=1)["sandbox"]["vcpus"] == 1
    vm.guest.eventually("ls -d /sys/devices/system/cpu/cpu[0-9]", r"^\S+cpu0$", PATIENCE)


def test_a_card_that_the_host_uses_is_refused(vm: QemuLab) -> None:
    for check_mode in (True, False):
        with pytest.raises(
            HypervisorError, match=rf"bound to e1000e, not to vfio-pci.*{CARD}.*Bind it to vfio-pci first"
        ):
            vm.run(check_mode=check_mode, devices=[vfio("card0", CARD)])
    assert driver_of(CARD) == "e1000e"


def test_a_card_is_the_guests_and_the_hosts_again(vm: QemuLab) -> None:
    with given_away(CARD):
        assert devices(vm, vfio("card0", CARD)) == ["plug vfio card0"]
        identity = "cd /sys/class/net/eth0/device && cat vendor device && readlink driver && cat ../../net/eth0/address /sys/class/net/eth0/address"
        told = vm.guest.eventually(identity, CARD_ADDRESS, PATIENCE)
        assert told.split()[:2] == ["0x8086", "0x10d3"] and told.split()[2].endswith("/e1000e")
        reaches_the_host(vm.guest)
        assert CARD_ADDRESS in neighbour_at(GUEST_IP, interface_of(LAN))
        # Memory that comes later is mapped for the card too, or QEMU would refuse it.
        assert vm.run(memory_mb=512)["sandbox"]["memory_mb"] == 512
        vm.guest.eventually(f"ping -c 2 -s 1400 -W 2 {HOST_IP}", " 0% packet loss", PATIENCE)
        with pytest.raises(HypervisorError, match="QEMU cannot save this VM as it is"):
            vm.run(state="saved")
        assert vm.facts()["state"] == "started"
        assert devices(vm) == ["unplug vfio card0"]
        vm.guest.eventually("ls /sys/class/net", "^lo$", PATIENCE)
    assert vm.run(memory_mb=256)["sandbox"]["memory_mb"] == 256
    # In a network namespace, or the packets would not leave the host.
    name = interface_of(CARD)
    for words in (
        f"netns add own|link set {name} netns own|-n own address add {GUEST_IP}/24 dev {name}|-n own link set {name} up"
    ).split("|"):
        subprocess.run(["ip", *words.split()], check=True)
    try:
        ping = ["ip", "netns", "exec", "own", "busybox", "ping", "-c", "1", "-W", "1", HOST_IP]
        eventually(lambda: subprocess.run(ping, capture_output=True, check=False).returncode == 0)
    finally:
        subprocess.run(["ip", "-n", "own", "link", "set", name, "netns", str(os.getpid())], check=True)
        subprocess.run(["ip", "netns", "delete", "own"], check=True)


def test_a_disk_named_by_its_place_in_sysfs(vm: QemuLab) -> None:
    """As a mediated device is named. What guest and host write, the other reads."""
    with given_away(DISK):
        assert devices(vm, {"id": "disk0", "type": "vfio", "path": str(PCI / DISK)}) == ["plug vfio disk0"]
        vm.guest.eventually("cat /sys/class/nvme/nvme0/serial", "HARDWARE-1", PATIENCE)
        vm.guest.eventually("ls /dev/nvme0n1", "^/dev/nvme0n1$", PATIENCE)
        assert vm.guest.run(f"head -c {len(DISK_CONTENT)} /dev/nvme0n1") == DISK_CONTENT.decode()
        vm.guest.run("printf 'by the guest' | dd of=/dev/nvme0n1 bs=512 seek=1 conv=fsync")
        assert devices(vm) == ["unplug vfio disk0"]
        vm.guest.eventually("ls /sys/block", "^(?!.*nvme)", PATIENCE)
    with open(eventually(lambda: list(pathlib.Path("/dev").glob("nvme*n1")))[0], "rb") as disk:
        assert disk.read(1024)[512:524] == b"by the guest"


def test_devices_of_a_group_go_together(vm: QemuLab) -> None:
    first, second = NEIGHBOURS
    assert (PCI / first / "iommu_group").resolve() == (PCI / second / "iommu_group").resolve()
    with given_away(first):
        for check_mode in (True, False):
            with pytest.raises(
                HypervisorError, match=rf"the host uses other devices of its IOMMU group: {second} \(e1000\)"
            ):
                vm.run(check_mode=check_mode, devices=[vfio("first", first)])
    with given_away(*NEIGHBOURS):
        assert devices(vm, vfio("first", first), vfio("second", second)) == ["plug vfio first", "plug vfio second"]
        vm.guest.eventually("cat /sys/class/net/*/device/device", "^0x100e\n0x100e$", PATIENCE)
        with pytest.raises(HypervisorError) as refused:
            vm.start("other", devices=[vfio("mine", second)], **UNBOOTED)
        assert second in str(refused.value) and "Device or resource busy" in str(refused.value)
        assert devices(vm) == ["unplug vfio first", "unplug vfio second"]


def test_a_vsock_is_reached_both_ways_and_its_cid_is_taken_once(vm: QemuLab) -> None:
    vsock = {"id": "vsock0", "type": "vsock", "cid": CID}
    assert devices(vm, vsock) == ["plug vsock vsock0"]
    vm.guest.eventually("ls /sys/bus/virtio/drivers/vmw_vsock_virtio_transport", "virtio[0-9]", PATIENCE)
    talk_over_vsock(vm.guest)
    others = {**vsock, "id": "mine"}
    with pytest.raises(HypervisorError, match=r"CID cannot be had.*77.*[Aa]ddress already in use.*Choose another cid"):
        vm.start("other", devices=[others], **UNBOOTED)
    assert devices(vm) == ["unplug vsock vsock0"]
    assert vm.start("other", devices=[others], **UNBOOTED)["sandbox"]["state"] == "started"
    with pytest.raises(HypervisorError, match=r"CID cannot be had.*77.*[Aa]ddress already in use.*Choose another cid"):
        vm.run(devices=[vsock])
    vm.run(id="other", state="absent", stop_timeout=0)
    assert devices(vm, vsock) == ["plug vsock vsock0"]
    assert devices(vm) == ["unplug vsock vsock0"]


def call_the_guest() -> socket.socket:
    """A connection to the guest's listener; until it listens, one is refused."""
    connection = socket.socket(socket.AF_VSOCK)
    connection.settimeout(PATIENCE)
    try:
        connection.connect((CID, 2048))
    except OSError:
        connection.close()
        raise
    return connection


def talk_over_vsock(guest: GuestShell) -> None:
    """The guest calls the host, and the host the guest; each knows the other by its CID."""
    with socket.socket(socket.AF_VSOCK) as listener:
        listener.settimeout(PATIENCE)
        listener.bind((socket.VMADDR_CID_ANY, 1024))
        listener.listen()
        guest.run("(echo from the guest | LD_LIBRARY_PATH=/lib socat - VSOCK-CONNECT:2:1024 >/run/answer 2>&1 &)")
        connection, (peer, _port) = listener.accept()
        with connection:
            connection.settimeout(PATIENCE)
            assert peer == CID and connection.recv(100) == b"from the guest\n"
            connection.sendall(b"from the host\n")
    guest.eventually("cat /run/answer", "^from the host$", PATIENCE)
    guest.run("(LD_LIBRARY_PATH=/lib socat VSOCK-LISTEN:2048 EXEC:cat >/dev/null 2>&1 &)")
    with eventually(call_the_guest) as connection:
        connection.sendall(b"and back")
        assert connection.recv(100) == b"and back"


def kernel_threads(pid: int) -> list[str]:
    """The kernel's own threads that serve a VMM's interfaces (they are named by it)."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            found.append(stat.read_text().strip())
    return [name for name in found if name == f"vhost-{pid}"]


@pytest.fixture
def bridge() -> Iterator[str]:
    """A bridge of the host, with an address."""
    subprocess.run(["ip", "link", "add", "br0", "up", "type", "bridge"], check=True)
    subprocess.run(["ip", "address", "add", "198.18.5.1/24", "dev", "br0"], check=True)
    yield "br0"
    subprocess.run(["ip", "link", "delete", "br0"], check=True)


@pytest.fixture
def tap_of_card() -> Iterator[str]:
    """A macvtap interface on a real card of the host, whose cable leads to the host's own."""
    parent = interface_of(NEIGHBOURS[0])
    subprocess.run(["ip", "link", "set", parent, "up"], check=True)
    subprocess.run(
        ["ip", "link", "add", "link", parent, "name", "mv0", "type", "macvtap", "mode", "bridge"], check=True
    )
    eventually(
        lambda: pathlib.Path(f"/dev/tap{pathlib.Path('/sys/class/net/mv0/ifindex').read_text().strip()}").exists()
    )
    yield "mv0"
    subprocess.run(["ip", "link", "delete", "mv0"], check=True)


@pytest.mark.parametrize("queues", [1, 2])
def test_the_kernel_serves_the_queues_of_a_tap(vm: QemuLab, bridge: str, queues: int) -> None:
    pid = vm.facts()["pid"]
    wanted = {"id": "net0", "type": "net", "kind": "tap", "bridge": bridge, "vhost": True, "queues": queues}
    assert devices(vm, wanted) == ["plug net net0"]
    vm.guest.eventually("ls /sys/class/net", "eth0", PATIENCE)
    assert len(kernel_threads(pid)) == queues
    reaches_the_host(vm.guest, host="198.18.5.1", address="198.18.5.2")
    assert devices(vm) == ["unplug net net0"]
    vm.guest.eventually("ls /sys/class/net", "^lo$", PATIENCE)
    assert kernel_threads(pid) == []
    assert os.listdir(f"/sys/class/net/{bridge}/brif") == []


def open_taps(pid: int) -> list[str]:
    """The nodes of macvtap interfaces that a process has open."""
    found = []
    for file in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(file))
    return [path for path in found if path.startswith("/dev/tap")]


def test_macvtap_on_a_card_is_let_go_again(vm: QemuLab, tap_of_card: str) -> None:
    pid = vm.facts()["pid"]
    found = pathlib.Path(f"/sys/class/net/{tap_of_card}/address").read_text()
    wanted = {"id": "net0", "type": "net", "kind": "macvtap", "tap_name": tap_of_card, "vhost": True}
    assert devices(vm, wanted) == ["plug net net0"]
    vm.guest.eventually("cat /sys/class/net/eth0/address", found.strip(), PATIENCE)
    reaches_the_host(vm.guest)
    assert found.strip() in neighbour_at(GUEST_IP, interface_of(LAN))
    assert len(open_taps(pid)) == 1
    assert devices(vm) == ["unplug net net0"]
    assert open_taps(pid) == []
    assert pathlib.Path(f"/sys/class/net/{tap_of_card}/address").read_text() == found


@pytest.mark.parametrize("user", ["", "nobody"])
def test_all_from_the_start(vm: QemuLab, bridge: str, tap_of_card: str, user: str) -> None:
    wanted = [
        vfio("card0", CARD),
        vfio("disk0", DISK),
        {"id": "vsock0", "type": "vsock", "cid": CID},
        {"id": "net0", "type": "net", "kind": "tap", "bridge": bridge, "vhost": True},
        {"id": "net1", "type": "net", "kind": "macvtap", "tap_name": tap_of_card, "vhost": True},
    ]
    os.chmod("/dev/kvm", 0o666)
    vm.root.chmod(0o711)
    vm.run(state="paused")
    with given_away(CARD, DISK):
        options = {"vmm_user": user or None, "root_ports": 2, "max_memory_mb": 512, "devices": wanted, **KVM}
        if user:
            with pytest.raises(
                HypervisorError, match=r"the user nobody must be able to read and write to this.*/dev/vfio/"
            ):
                vm.start("cold", **options)
        for address in (CARD, DISK):
            os.chmod(f"/dev/vfio/{(PCI / address / 'iommu_group').resolve().name}", 0o666)
        pid = vm.start("cold", **options)["sandbox"]["pid"]
        assert not user or "CapEff:\t0000000000000000" in pathlib.Path(f"/proc/{pid}/status").read_text()
        guest = vm.shell("cold")
        assert guest.run(f"head -c {len(DISK_CONTENT)} /dev/nvme0n1") == DISK_CONTENT.decode()
        names = guest.run(
            "for i in /sys/class/net/eth*; do echo ${i##*/} $(cat $i/address) $(cat $i/device/device); done"
        ).splitlines()
        by_kind = {line.split()[1]: line.split()[0] for line in names}
        reaches_the_host(guest, by_kind[CARD_ADDRESS])
        guest.run(f"ip link set {by_kind[CARD_ADDRESS]} down")
        reaches_the_host(
            guest,
            by_kind[pathlib.Path(f"/sys/class/net/{tap_of_card}/address").read_text().strip()],
            address="192.0.2.3",
        )
        (tap,) = (
            line.split()[0]
            for line in names
            if line.split()[1].startswith("52:54:00") and line.split()[1] != CARD_ADDRESS
        )
        reaches_the_host(guest, tap, host="198.18.5.1", address="198.18.5.2")
        talk_over_vsock(guest)
        assert vm.run(id="cold", memory_mb=512)["sandbox"]["memory_mb"] == 512
        vm.run(id="cold", state="absent", stop_timeout=0)
    vm.run(state="started")
