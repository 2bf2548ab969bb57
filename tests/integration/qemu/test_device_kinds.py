# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices of a real VM: each is plugged, seen from inside the guest, and unplugged."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import socket
import subprocess
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.processes import command_lines
from ansible_collections.kata.hypervisor.plugins.module_utils.host.programs import version_text
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices import virtiofsd
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.qmp import QmpClient
from tests.support.qemu_lab import QemuLab
from tests.support.waiting import wait_until

#: Seconds that a read of the disk takes at least when it is limited.
LIMITED_SECONDS = 1.5


@pytest.fixture(scope="module")
def vm(shared_lab: QemuLab) -> Iterator[QemuLab]:
    """One VM whose memory other processes can see, for all kinds of devices."""
    memory = {"memory_hotplug": "pc-dimm", "memory_mb": 192, "max_memory_mb": 512}
    made = shared_lab.start(shared_fs="virtio-fs", block_device_driver="virtio-scsi", bridges=1, root_ports=3, **memory)
    shared_lab.guest = shared_lab.shell()
    if shared_lab.lacks(made, 6, 2):
        # What is plugged in before the guest has switched its empty ports off (no power, and the light that says that nothing was found)
        # it may switch off with them.
        shared_lab.guest.eventually(
            "cat /sys/bus/pci/slots/*/power /sys/bus/pci/slots/*/attention", r"^(0\s*)+(1\s*)+$"
        )
    yield shared_lab


@pytest.fixture
def disk(shared_lab: QemuLab) -> pathlib.Path:
    path: pathlib.Path = shared_lab.root / "disk.raw"
    path.write_bytes(b"hello from the host".ljust(16 * 1024 * 1024, b"\0"))
    return path


def devices(vm: QemuLab, *wanted: dict[str, Any]) -> list[str]:
    """Converge the list of devices twice, the second time for nothing; the actions of the first."""
    result = vm.run(devices=list(wanted))
    again = vm.run(devices=list(wanted))
    assert again["changed"] is False and again["actions"] == []
    actions: list[str] = result["actions"]
    return actions


def test_virtio_blk(vm: QemuLab, disk: pathlib.Path) -> None:
    wanted = {"id": "data0", "type": "block", "file": str(disk), "driver": "virtio-blk", "serial": "SER-1"}
    assert devices(vm, wanted)
    vm.guest.eventually("cat /sys/block/vda/serial", "SER-1")
    assert vm.guest.run("head -c 19 /dev/vda") == "hello from the host"
    vm.guest.run("printf written | dd of=/dev/vda bs=512 seek=1 conv=fsync")
    assert disk.read_bytes()[512:519] == b"written"
    assert devices(vm)
    vm.guest.eventually("ls /sys/block", r"^(?!.*vda)")


def test_scsi_disk_read_only(vm: QemuLab, disk: pathlib.Path) -> None:
    assert devices(vm, {"id": "data1", "type": "block", "file": str(disk), "driver": "virtio-scsi", "read_only": True})
    vm.guest.eventually("cat /sys/block/sda/ro", "^1$")
    assert vm.guest.run("head -c 19 /dev/sda") == "hello from the host"
    assert devices(vm)
    vm.guest.eventually("ls /sys/block", r"^(?!.*sda)")


def seconds_to_read(vm: QemuLab, device: str) -> float:
    """How long the guest takes to read 3 MiB of a disk, by its own clock."""
    clock = "read -r now _ </proc/uptime; echo $now"
    vm.guest.run("echo 3 > /proc/sys/vm/drop_caches")
    before, after = (
        float(line)
        for line in vm.guest.run(f"{clock}; dd if={device} of=/dev/null bs=64k count=48 2>/dev/null; {clock}").split()
    )
    return after - before


def reads_quickly(vm: QemuLab, path: str) -> bool:
    """Does one of several reads take less time than a limit allows? A busy machine slows some of them down, a limit all."""
    return any(seconds_to_read(vm, path) < LIMITED_SECONDS for _attempt in range(8))


@pytest.mark.parametrize(("driver", "device"), [("virtio-blk", "vda"), ("virtio-scsi", "sda")])
def test_a_limit_comes_changes_and_goes(vm: QemuLab, disk: pathlib.Path, driver: str, device: str) -> None:
    wanted = {"id": "data3", "type": "block", "file": str(disk), "driver": driver}
    assert devices(vm, wanted) == ["plug block data3"]
    vm.guest.eventually("ls /sys/block", device)
    assert reads_quickly(vm, f"/dev/{device}")
    stays = vm.facts()["capabilities"]["disk_limit_update"]
    changed = ["change block data3"] if stays else ["unplug block data3", "plug block data3"]
    if stays:
        vm.guest.run(f"exec 7</dev/{device}")

    def limit(**limits: int) -> None:
        assert devices(vm, {**wanted, "rate_limit": limits} if limits else wanted) == changed
        vm.guest.eventually("ls /sys/block", device)

    limit(bandwidth=1 << 20)
    assert seconds_to_read(vm, f"/dev/{device}") > LIMITED_SECONDS
    limit(bandwidth=1 << 30, ops=100000, ops_burst=10)
    assert reads_quickly(vm, f"/dev/{device}")
    limit()
    assert reads_quickly(vm, f"/dev/{device}")
    if stays:
        assert vm.guest.run("head -c 19 <&7; exec 7<&-") == "hello from the host"
    limited = {**wanted, "id": "data4", "rate_limit": {"bandwidth": 1 << 20}}
    assert devices(vm, limited) == ["unplug block data3", "plug block data4"]
    vm.guest.eventually("ls /sys/block", device)
    assert seconds_to_read(vm, f"/dev/{device}") > LIMITED_SECONDS
    assert devices(vm)
    vm.guest.eventually("ls /sys/block", f"^(?!.*{device})")


def test_qcow2_is_what_it_is_told_to_be(vm: QemuLab, tool: Callable[..., str]) -> None:
    image = vm.root / "disk.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", str(image), "32M")
    assert devices(vm, {"id": "data2", "type": "block", "file": str(image), "format": "qcow2", "driver": "virtio-blk"})
    vm.guest.eventually("cat /sys/block/vda/size", "^65536$")
    assert devices(vm, {"id": "data2", "type": "block", "file": str(image), "format": "raw", "driver": "virtio-blk"})
    vm.guest.eventually("cat /sys/block/vda/size", f"^{-(-image.stat().st_size // 512)}$")
    assert devices(vm)


def test_user_network_with_a_stable_address(vm: QemuLab) -> None:
    wanted = {"id": "net0", "type": "net", "kind": "user"}
    assert devices(vm, wanted)
    address = vm.guest.eventually("cat /sys/class/net/eth0/address", "^52:54:00:")
    assert devices(vm)
    vm.guest.eventually("ls /sys/class/net", r"^(?!.*eth0)")
    assert devices(vm, wanted)
    assert vm.guest.eventually("cat /sys/class/net/eth0/address", "^52:54:00:") == address
    assert devices(vm)


def test_tap_in_a_bridge_carries_packets(vm: QemuLab, tool: Callable[..., str]) -> None:
    bridge = f"kb{os.getpid() % 100000}"
    tool("ip", "link", "add", bridge, "type", "bridge")
    try:
        tool("ip", "address", "add", "198.18.77.1/24", "dev", bridge)
        tool("ip", "link", "set", bridge, "up")
        assert devices(vm, {"id": "net1", "type": "net", "kind": "tap", "bridge": bridge})
        ports = os.listdir(f"/sys/class/net/{bridge}/brif")
        assert len(ports) == 1
        vm.guest.eventually("ls /sys/class/net", "eth0")
        vm.guest.run("ip address add 198.18.77.2/24 dev eth0 && ip link set eth0 up")
        vm.guest.eventually("ping -c 1 -w 2 198.18.77.1", "1 packets received")
        assert devices(vm)
        assert not os.path.exists(f"/sys/class/net/{ports[0]}"), "the tap goes when its VM lets go of it"
    finally:
        tool("ip", "link", "delete", bridge)


def test_virtio_fs_share_both_ways(vm: QemuLab) -> None:
    shared = vm.root / "shared"
    shared.mkdir()
    (shared / "greeting").write_text("from the host")
    assert devices(vm, {"id": "share0", "type": "fs", "tag": "work", "path": str(shared)})
    vm.guest.eventually("mkdir -p /mnt/work && mount -t virtiofs work /mnt/work && echo mounted", "mounted")
    assert vm.guest.run("cat /mnt/work/greeting") == "from the host"
    vm.guest.run("echo from the guest > /mnt/work/answer")
    assert (shared / "answer").read_text() == "from the guest\n"
    assert any("virtiofsd" in process for process in vm.processes())
    daemons = [
        pathlib.Path(f"/proc/{pid}")
        for pid, words in command_lines()
        if "virtiofsd" in words[0] and str(vm.root) in " ".join(words)
    ]
    # The one that serves has nothing but the directory, and may make few system calls (CVE-2026-47243).
    [confined] = [daemon for daemon in daemons if "Seccomp:\t2" in (daemon / "status").read_text()]
    assert sorted(path.name for path in (confined / "root").iterdir()) == ["answer", "greeting"]
    assert all(
        os.readlink(confined / "ns" / kind) != os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "pid", "net")
    )
    vm.guest.run("umount /mnt/work")
    assert devices(vm)
    assert not any("virtiofsd" in process for process in vm.processes())


def test_serial_port(vm: QemuLab) -> None:
    assert devices(vm, {"id": "port0", "type": "serial", "name": "org.example.port"})
    path = vm.run_path("port-port0.sock")
    vm.guest.eventually("cat /sys/class/virtio-ports/*/name", "org.example.port")
    device = vm.guest.run("basename $(dirname $(grep -l org.example.port /sys/class/virtio-ports/*/name))")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        vm.guest.run(f"echo from the guest > /dev/{device}")
        assert connection.recv(100) == b"from the guest\n"
    assert devices(vm)
    assert not path.exists()


@pytest.fixture
def packet_daemon(vm: QemuLab) -> Iterator[pathlib.Path]:
    """DPDK's test program as the other side of a vhost-user interface: it answers ARP and ping."""
    program = shutil.which("dpdk-testpmd")
    if program is None:
        pytest.skip("this host has no dpdk-testpmd (Debian's dpdk-dev) to serve a vhost-user interface")
    path = vm.root / "net.sock"
    command = [
        program,
        "-l",
        "0,1",
        "--no-huge",
        "-m",
        "128",
        "--no-pci",
        f"--file-prefix=kt{os.getpid()}",
        f"--vdev=net_vhost0,iface={path},queues=1",
    ]
    command += ["--", "--forward-mode=icmpecho", "--total-num-mbufs=2048"]
    with open(vm.root / "testpmd.log", "wb") as log:
        # Its standard input stays open: at its end it would end too.
        daemon = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            wait_until(lambda: path.exists() or daemon.poll() is not None, "the socket of dpdk-testpmd")
            assert path.exists(), (vm.root / "testpmd.log").read_text()
            yield path
        finally:
            daemon.kill()
            daemon.wait()


def test_an_interface_that_another_process_serves(vm: QemuLab, packet_daemon: pathlib.Path) -> None:
    wanted = {
        "id": "vnet0",
        "type": "vhost_user",
        "model": "virtio-net-pci",
        "path": str(packet_daemon),
        "mac": "52:54:00:00:00:77",
    }
    assert devices(vm, wanted)
    vm.guest.eventually("cat /sys/class/net/eth0/address", "52:54:00:00:00:77")
    vm.guest.run("ip address add 198.18.78.2/24 dev eth0 && ip link set eth0 up")
    vm.guest.eventually("ping -c 1 -w 2 198.18.78.1", "1 packets received")
    assert devices(vm)
    vm.guest.eventually("ls /sys/class/net", r"^(?!.*eth0)")


DISK_DAEMONS = {
    "vhost-user-blk-pci": (
        "qemu-storage-daemon",
        "--blockdev file,node-name=d,filename={disk} --export type=vhost-user-blk,id=x,node-name=d,addr.type=unix,addr.path={socket}",
    ),
    # Not packaged by Debian: cargo install vhost-device-scsi.
    "vhost-user-scsi-pci": ("vhost-device-scsi", "--socket-path {socket} {disk}"),
}


@pytest.mark.parametrize("model", list(DISK_DAEMONS))
def test_a_disk_that_another_process_serves(vm: QemuLab, disk: pathlib.Path, model: str) -> None:
    name, arguments = DISK_DAEMONS[model]
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"this host has no {name} to serve a {model}")
    path = vm.root / "disk.sock"
    with subprocess.Popen([program, *arguments.format(disk=disk, socket=path).split()]) as daemon:
        try:
            wait_until(path.exists, "the socket of the disk's process")
            assert devices(vm, {"id": "disk0", "type": "vhost_user", "model": model, "path": str(path)})
            vm.guest.eventually("head -qc 19 /dev/vda /dev/sda 2>/dev/null; true", "^hello from the host$")
            assert devices(vm)
            vm.guest.eventually("ls /sys/block", r"^(?!.*[sv]da)")
            assert daemon.poll() in (None, 0), "nobody ends a process that is not the sandbox's"
        finally:
            daemon.kill()
            path.unlink(missing_ok=True)


def test_a_share_whose_daemon_is_somebody_elses(vm: QemuLab) -> None:
    """It is neither started nor ended with the device."""
    program = next((path for path in virtiofsd.USUAL_PLACES if os.access(path, os.X_OK)), None)
    if program is None:
        pytest.skip("this host has no virtiofsd")
    shared, path = vm.root / "others", vm.root / "others.sock"
    shared.mkdir()
    (shared / "greeting").write_text("from elsewhere")
    argv = virtiofsd.arguments(program, version_text(program), str(path), str(shared), "auto", False)
    daemon = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(path.exists, "the socket of virtiofsd")
        assert devices(
            vm, {"id": "fs0", "type": "vhost_user", "model": "vhost-user-fs-pci", "tag": "others", "path": str(path)}
        )
        vm.guest.eventually(
            "mkdir -p /mnt/o && mount -t virtiofs others /mnt/o && cat /mnt/o/greeting", "from elsewhere"
        )
        vm.guest.run("umount /mnt/o")
        assert daemon.poll() is None
        assert devices(vm)
    finally:
        daemon.kill()
        daemon.wait()


def test_many_at_once_and_slots_are_not_leaked(vm: QemuLab, disk: pathlib.Path) -> None:
    copies = []
    for number in range(3):
        copy = vm.root / f"copy{number}.raw"
        copy.write_bytes(hashlib.sha256(str(number).encode()).digest().ljust(1024 * 1024, b"\0"))
        copies.append({"id": f"copy{number}", "type": "block", "file": str(copy), "driver": "virtio-blk"})
    for _round in range(2):
        assert len(devices(vm, *copies)) == 3
        vm.guest.eventually("ls /sys/block", "vda[^$]*vdb[^$]*vdc")
        assert len(devices(vm)) == 3
    record = vm.run()["sandbox"]
    assert record["devices"] == []


def test_root_ports_are_taken_before_bridges(vm: QemuLab) -> None:
    """This guest has no driver for a bridge's own controller, without which it would see nothing behind one of a q35 before QEMU 6.1."""
    places = ["root-port-0", "root-port-1", "root-port-2", *(["pci-bridge-0"] if not vm.lacks(vm.made, 6, 1) else [])]
    copies = []
    for number in range(len(places)):
        copy = vm.root / f"port{number}.raw"
        copy.write_bytes(bytes(1 << 20))
        copies.append(
            {
                "id": f"port{number}",
                "type": "block",
                "file": str(copy),
                "driver": "virtio-blk",
                "serial": f"PORT-{number}",
            }
        )
    assert len(devices(vm, *copies)) == len(places)
    vm.guest.eventually("cat /sys/block/vd?/serial", "".join(f"PORT-{number}" for number in range(len(places))))
    with QmpClient(str(vm.run_path("monitor.sock"))) as qmp:
        for number, bus in enumerate(places):
            path = f"/machine/peripheral/dev-port{number}"
            assert qmp.execute("qom-get", {"path": path, "property": "parent_bus"}).endswith(f"/{bus}")
    assert devices(vm)
    vm.guest.eventually("ls /sys/block", r"^(?!.*vd)")


def test_memory_that_is_plugged_in_is_shared_too(vm: QemuLab) -> None:
    """The processes that serve the VM's devices read and write in it."""
    assert vm.run(memory_mb=320)["sandbox"]["memory_mb"] == 320
    with QmpClient(str(vm.run_path("monitor.sock"))) as qmp:
        assert qmp.execute("qom-get", {"path": "/objects/mem0", "property": "share"}) is True
    vm.guest.eventually("awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo", "^2[5-9][0-9]$|^3[0-9]{2}$")


def test_one_device_by_itself_leaves_the_others_alone(vm: QemuLab, disk: pathlib.Path) -> None:
    port = {"id": "port0", "type": "serial", "name": "org.example.port"}
    assert devices(vm, port)
    wanted = {"id": "one", "type": "block", "file": str(disk), "driver": "virtio-blk", "serial": "ONE"}
    assert vm.device(check_mode=True, **wanted)["actions"] == ["plug block one"]
    assert vm.device(**wanted)["actions"] == ["plug block one"]
    assert vm.device(**wanted)["changed"] is False
    vm.guest.eventually("cat /sys/block/vda/serial", "ONE")
    replaced = vm.device(**{**wanted, "serial": "TWO"})
    assert replaced["actions"] == ["unplug block one", "plug block one"]
    vm.guest.eventually("cat /sys/block/vda/serial", "TWO")
    assert vm.device(id="one", state="absent")["actions"] == ["unplug block one"]
    vm.guest.eventually("ls /sys/block", r"^(?!.*vda)")
    left = vm.run()["sandbox"]["devices"]
    assert [(device["id"], device["plugged"]) for device in left] == [("port0", True)]
    assert "org.example.port" in vm.guest.run("cat /sys/class/virtio-ports/*/name")
    assert devices(vm)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"id": "gone", "type": "block", "file": "/nowhere/disk.raw"}, "disk does not exist"),
        ({"id": "v0", "type": "vfio", "address": "0000:ff:1f.7"}, "no such device"),
        ({"id": "s0", "type": "vsock", "cid": 77}, "vhost-vsock"),
        ({"id": "n0", "type": "net", "kind": "tap", "bridge": "nosuchbridge0"}, "no bridge"),
        (
            {"id": "n1", "type": "net", "kind": "user", "tx_rate_limit": {"ops": 10}},
            "cannot limit the rate of an interface",
        ),
        (
            {"id": "u0", "type": "vhost_user", "path": "/nowhere.sock", "model": "vhost-user-blk-pci"},
            "a program must listen",
        ),
    ],
)
def test_what_the_host_lacks_is_refused_and_nothing_stays(vm: QemuLab, wanted: dict[str, Any], words: str) -> None:
    if wanted["type"] == "vsock" and os.path.exists("/dev/vhost-vsock"):
        pytest.skip("this host has /dev/vhost-vsock")
    before = vm.run()["sandbox"]
    with pytest.raises(HypervisorError, match=words):
        vm.run(devices=[wanted])
    assert vm.run()["sandbox"]["devices"] == before["devices"]
    devices(vm)


def test_what_cannot_be_plugged_in_takes_nothing_out(vm: QemuLab, disk: pathlib.Path) -> None:
    wanted = {"id": "data5", "type": "block", "file": str(disk), "driver": "virtio-blk"}
    assert devices(vm, wanted)
    for check_mode in (True, False):
        with pytest.raises(HypervisorError, match="disk does not exist"):
            vm.run(check_mode=check_mode, devices=[{**wanted, "file": "/nowhere/disk.raw"}])
    assert vm.run(devices=[wanted])["changed"] is False
    assert devices(vm)


def test_a_disk_the_host_has_mounted_is_refused(vm: QemuLab) -> None:
    root = os.stat("/").st_dev
    node = pathlib.Path(f"/dev/block/{os.major(root)}:{os.minor(root)}")
    source = node if node.exists() else next((p for p in pathlib.Path("/dev").glob("vd?") if p.is_block_device()), None)
    if source is None:
        pytest.skip("this host's root file system is on no block device")
    with pytest.raises(HypervisorError, match="the host itself uses this disk"):
        vm.run(devices=[{"id": "root", "type": "block", "file": str(source)}])
    devices(vm)
