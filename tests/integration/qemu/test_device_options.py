# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What devices can be told: caches, queues, shares of the older kind; as QEMU has it and as the guest sees it."""

from __future__ import annotations

import os
import pathlib
from typing import Any, Callable

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.host import id_mapped_mounts
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.qmp import QmpClient
from tests.support.guest_assets import Assets, guest_assets
from tests.support.qemu_lab import QemuLab


def nodes(lab: QemuLab) -> dict[str, dict[str, Any]]:
    """QEMU's block nodes by name."""
    with QmpClient(str(lab.run_path("monitor.sock"))) as qmp:
        return {node["node-name"]: node for node in qmp.execute("query-named-block-nodes", {"flat": True})}


def test_caches_and_discard(lab: QemuLab) -> None:
    lab.start()
    wanted = []
    for cache in ("none", "writeback", "writethrough", "unsafe"):
        path = lab.root / f"{cache}.raw"
        path.write_bytes(bytes(1 << 20))
        wanted.append(
            {"id": cache, "type": "block", "file": str(path), "driver": "virtio-blk", "cache": cache, "discard": True}
        )
    lab.run(devices=wanted)
    assert lab.run(devices=wanted)["changed"] is False
    found = nodes(lab)
    flags = {name: found[f"node-{name}"]["cache"] for name in ("none", "writeback", "writethrough", "unsafe")}
    assert flags["none"]["direct"] and not flags["writeback"]["direct"] and flags["unsafe"]["no-flush"]
    guest = lab.shell()
    guest.eventually("ls /sys/block", "vdd")
    modes = guest.run("cat /sys/block/vd?/queue/write_cache").splitlines()
    assert sorted(modes) == ["write back", "write back", "write back", "write through"]
    assert all(int(size) > 0 for size in guest.run("cat /sys/block/vd?/queue/discard_max_bytes").split())


def test_a_tap_with_more_than_one_queue(lab: QemuLab) -> None:
    lab.start(vcpus=2, max_vcpus=2)
    lab.run(
        devices=[{"id": "net0", "type": "net", "kind": "tap", "queues": 2, "mtu": 1400, "mac": "52:54:00:12:34:56"}]
    )
    guest = lab.shell()
    guest.eventually("ls /sys/class/net", "eth0")
    assert guest.run("cat /sys/class/net/eth0/address; cat /sys/class/net/eth0/mtu") == "52:54:00:12:34:56\n1400"
    assert guest.run("ls -d /sys/class/net/eth0/queues/rx-* | wc -l") == "2"


def test_macvtap_has_the_address_of_its_interface_and_reaches_the_network(
    lab: QemuLab, macvtap: tuple[str, str], tool: Callable[..., str]
) -> None:
    name, elsewhere = macvtap
    wanted = pathlib.Path(f"/sys/class/net/{name}/address").read_text().strip()
    lab.start()
    for queues in (1, 2):
        lab.run(devices=[{"id": "net0", "type": "net", "kind": "macvtap", "tap_name": name, "queues": queues}])
        guest = lab.shell()
        guest.eventually("cat /sys/class/net/eth0/address", wanted)
        guest.run("ip address add 192.0.2.2/24 dev eth0; ip link set eth0 up")
        guest.eventually("ping -c 1 -W 1 192.0.2.1 && echo answered", "answered")
        assert f"192.0.2.2 dev ktq{name[3:]} lladdr {wanted}" in tool("ip", "-n", elsewhere, "neighbour", "show")
        lab.run(devices=[])
        guest.eventually("ls /sys/class/net", "^lo$")
        guest.close()
        assert pathlib.Path(f"/sys/class/net/{name}").exists(), "what the host made is the host's"


@pytest.fixture(scope="module")
def guest_with_9p() -> Assets:
    """The distribution's kernel for all hardware, which has the client; the one for clouds has none."""
    return guest_assets("linux-image-amd64")


def test_a_9p_share_is_there_from_the_start_or_not_at_all(lab: QemuLab, guest_with_9p: Assets) -> None:
    shared = lab.root / "shared"
    shared.mkdir()
    (shared / "greeting").write_text("hello from the host")
    share = {"id": "share0", "type": "fs", "tag": "work", "path": str(shared)}
    lab.start(shared_fs="virtio-9p", kernel_path=str(guest_with_9p.kernel), initrd_path=str(guest_with_9p.initrd))
    if os.geteuid() == 0:
        lab.run(state="stopped", stop_timeout=0)
        for check_mode in (True, False):
            with pytest.raises(
                HypervisorError,
                match=r"own user, who may not read and write to and enter or execute this.*vmm_user: root",
            ):
                lab.run(check_mode=check_mode, state="started", devices=[share])
        lab.run(state="started", vmm_user="root")
    with pytest.raises(HypervisorError, match="restart"):
        lab.run(devices=[share])
    lab.run(devices=[share], disruption="restart", wait_for={"console": "kata-guest: ready", "timeout": 120})
    guest = lab.shell()
    guest.run("mkdir -p /mnt/work && mount -t 9p -o trans=virtio,version=9p2000.L work /mnt/work")
    assert guest.run("cat /mnt/work/greeting") == "hello from the host"
    guest.run(
        "printf 'hello from the guest' > /mnt/work/answer && mkdir /mnt/work/made && chmod 700 /mnt/work/made && ln -s answer /mnt/work/link"
    )
    assert (shared / "answer").read_text() == "hello from the guest"
    assert (shared / "made").stat().st_mode & 0o777 == 0o700
    with pytest.raises(HypervisorError, match="restart"):
        lab.run(devices=[])
    with pytest.raises(HypervisorError, match=r"is mounted in the guest.*unmount it in the guest"):
        lab.run(state="saved")
    assert lab.facts()["state"] == "started"
    assert guest.run("cat /mnt/work/link; umount /mnt/work") == "hello from the guest"
    guest.close()
    lab.run(state="saved")
    lab.run(state="started")
    guest = lab.shell()
    assert guest.run("mount -t 9p -o trans=virtio work /mnt/work && cat /mnt/work/greeting") == "hello from the host"


def test_a_virtio_fs_share_of_a_stopped_daemon_is_noticed(lab: QemuLab) -> None:
    shared = lab.root / "shared"
    shared.mkdir()
    lab.start(devices=[{"id": "share0", "type": "fs", "tag": "work", "path": str(shared)}])
    guest = lab.shell()
    guest.eventually("mkdir -p /mnt/w && mount -t virtiofs work /mnt/w && echo mounted", "mounted")
    for check_mode in (True, False):
        with pytest.raises(HypervisorError, match=r"cannot save this VM as it is.*vhost-user-fs"):
            lab.run(check_mode=check_mode, state="saved")
    assert lab.facts()["state"] == "started"
    daemons = [path for path in pathlib.Path("/proc").glob("[0-9]*") if _is_our_daemon(path, lab.root)]
    assert daemons
    for daemon in daemons:
        os.kill(int(daemon.name), 9)
    for _try in range(100):
        if "share0" in lab.facts()["reason"]:
            break
    assert "share0 is gone" in lab.facts()["reason"]


def _is_our_daemon(process: pathlib.Path, root: pathlib.Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes()
    except OSError:
        return False
    return b"virtiofsd" in words and os.fsencode(str(root)) in words


def test_files_in_the_guests_memory(lab: QemuLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An NVDIMM and a virtio-pmem, from the start and plugged in; QEMU takes none out again."""
    files = []
    for number, kind in enumerate(("block", "pmem", "block", "pmem")):
        path = lab.root / f"memory{number}.raw"
        path.write_bytes(f"file {number}".encode().ljust(64 << 20, b"\0"))
        driver = {"driver": "nvdimm", "read_only": number == 2} if kind == "block" else {}
        files.append({"id": f"memory{number}", "type": kind, "file": str(path), **driver})
    made = lab.start(memory_mb=256, max_memory_mb=512, memory_offset_mb=8192, devices=files[:2])["sandbox"]
    for file in files:
        os.chmod(file["file"], 0o600)
    if os.geteuid() == 0:
        # QEMU has opened the first two as root, and opens others as the sandbox's own user, to whom they are not shown by any name.
        def refuse(*_words: object) -> int:
            raise OSError(38, "Function not implemented")

        with monkeypatch.context() as patch:
            patch.setattr(id_mapped_mounts, "open_for", refuse)
            for check_mode in (True, False):
                with pytest.raises(
                    HypervisorError,
                    match=rf"own user .{made['vmm_uid']}. may not read this.*not implemented.*disruption: restart",
                ):
                    lab.run(check_mode=check_mode, devices=files)
        before = [os.stat(file["file"]) for file in files]
    assert lab.run(devices=files)["actions"] == ["plug block memory2", "plug pmem memory3"]
    assert lab.run(devices=files)["changed"] is False
    if os.geteuid() == 0:
        assert [(file.st_uid, file.st_gid, file.st_mode) for file in before] == [
            (status.st_uid, status.st_gid, status.st_mode) for status in (os.stat(file["file"]) for file in files)
        ]
    guest = lab.shell()
    for number in range(4):
        guest.eventually("head -qc 6 /dev/pmem*", f"file {number}")
    guest.eventually("ls /dev/pmem* | wc -l", "^4$")
    find = "for d in /dev/pmem*; do [ \"$(head -c 6 $d)\" = 'file {0}' ] && echo $d; done"
    for number in (0, 1, 3):
        device = guest.run(find.format(number) + "; true")
        guest.run(f"printf written | dd of={device} bs=512 seek=8 conv=fsync 2>/dev/null")
        assert (lab.root / f"memory{number}.raw").read_bytes()[4096:4103] == b"written"
    device = guest.run(find.format(2) + "; true")
    assert guest.run(f"cat /sys/block/{device[5:]}/ro") == "1"
    for left in (files[:3], [files[0], files[1], files[3]]):
        with pytest.raises(HypervisorError, match="restart"):
            lab.run(devices=left)
    lab.run(memory_mb=384)
    with pytest.raises(HypervisorError, match="read-only NVDIMM, so it is not saved"):
        lab.run(state="saved")
    assert guest.run("echo alive") == "alive"
    guest.close()
    lab.run(
        devices=[files[0], files[1], files[3]],
        disruption="restart",
        wait_for={"console": "kata-guest: ready", "timeout": 120},
    )
    lab.run(memory_mb=512)
    lab.run(state="saved")
    lab.run(state="started")
    guest = lab.shell()
    guest.run("echo 3 > /proc/sys/vm/drop_caches")
    assert guest.run("head -qc 6 /dev/pmem* | grep -o 'file [0-9]' | sort") == "file 0\nfile 1\nfile 3"
    for number in (0, 1, 3):
        assert (lab.root / f"memory{number}.raw").read_bytes()[4096:4103] == b"written"


@pytest.mark.parametrize(
    ("options", "device", "words"),
    [
        ({}, {"type": "pmem"}, "no room for files in its memory"),
        ({"memory_offset_mb": 2048}, {"type": "pmem", "read_only": True}, "cannot be read-only"),
        ({"memory_offset_mb": 2048}, {"type": "block", "driver": "nvdimm", "format": "qcow2"}, "is raw"),
        (
            {"memory_offset_mb": 2048},
            {"type": "block", "driver": "nvdimm", "rate_limit": {"ops": 1}},
            "cannot limit a file",
        ),
    ],
)
def test_files_that_cannot_be_in_the_guests_memory(
    lab: QemuLab, options: dict[str, Any], device: dict[str, Any], words: str
) -> None:
    path = lab.root / "memory.raw"
    path.write_bytes(bytes(2 << 20))
    lab.start(wait_for=None, **options)
    with pytest.raises(HypervisorError, match=words):
        lab.run(devices=[{"id": "memory", "file": str(path), **device}])
    path.write_bytes(bytes(1000))
    with pytest.raises(HypervisorError):
        lab.run(devices=[{"id": "memory", "file": str(path), **device}])
    assert lab.run()["sandbox"]["devices"] == []


def test_the_cache_of_disks_that_say_none(lab: QemuLab) -> None:
    path = lab.root / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    disks = [{"id": "data0", "type": "block", "file": str(path)}]
    cache = {"block_device_cache_set": True, "block_device_cache_direct": True, "block_device_cache_noflush": True}
    lab.start(wait_for=None, devices=disks, **cache)
    flags = nodes(lab)["node-data0"]["cache"]
    assert flags["direct"] and flags["no-flush"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shared_fs": "virtio-fs", "virtio_fs_cache_size_mb": 1024}, "no shared window for virtio-fs"),
        ({"use_vsock": True}, "a vsock is a device here"),
        (
            {"disable_vhost_net": True, "devices": [{"id": "n", "type": "net", "kind": "tap", "vhost": True}]},
            "disable_vhost_net",
        ),
    ],
)
def test_what_qemu_has_another_way_for_is_refused(lab: QemuLab, options: dict[str, Any], words: str) -> None:
    with pytest.raises(HypervisorError, match=words):
        lab.start(**options)
    assert lab.processes() == []
