# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU as a user who is not root, through all of a sandbox's life."""

from __future__ import annotations

import hashlib
import os
import pathlib
import pwd
import re
import shutil
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import converge_template
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_template_spec
from tests.support.qemu_lab import QemuLab

USER = "nobody"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a VMM as another user")


@pytest.fixture
def guest_files(lab: QemuLab) -> dict[str, str]:
    """The guest's files where that user can read them, and a directory that it can reach."""
    lab.root.chmod(0o711)
    copies = {}
    for option, source in (("kernel_path", lab.assets.kernel), ("initrd_path", lab.assets.initrd)):
        copies[option] = shutil.copyfile(source, lab.root / option)
        os.chmod(copies[option], 0o644)
    return {option: str(path) for option, path in copies.items()}


def a_disk(lab: QemuLab, name: str, owner: str) -> dict[str, Any]:
    path = lab.root / f"{name}.raw"
    path.write_bytes(f"this is {name}".encode().ljust(1 << 20, b"\0"))
    path.chmod(0o600)
    os.chown(path, pwd.getpwnam(owner).pw_uid, -1)
    return {"id": name, "type": "block", "file": str(path), "driver": "virtio-blk", "serial": name}


def check_process(pid: int) -> None:
    """The process has that user's ids, its groups, no capability, and confines itself."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    known = pwd.getpwnam(USER)
    for name, identity in (("Uid", known.pw_uid), ("Gid", known.pw_gid)):
        assert re.search(rf"^{name}:(\s+{identity}){{4}}$", status, re.MULTILINE), status
    groups = re.search(r"^Groups:(.*)$", status, re.MULTILINE)
    assert groups and {int(word) for word in groups[1].split()} == set(os.getgrouplist(USER, known.pw_gid))
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE) and re.search(r"^CapPrm:\s+0+$", status, re.MULTILINE)
    assert "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status


def test_it_lives_as_that_user(lab: QemuLab, guest_files: dict[str, str]) -> None:
    cold = [a_disk(lab, "cold", USER), {"id": "port0", "type": "serial", "name": "org.example.cold"}]
    facts = lab.start(
        vmm_user=USER, shared_fs="virtio-fs", max_vcpus=2, max_memory_mb=512, devices=cold, **guest_files
    )["sandbox"]
    check_process(facts["pid"])
    assert lab.run(state="started")["changed"] is False
    guest = lab.shell()
    assert guest.run("head -c 12 /dev/vda") == "this is cold"

    shared = lab.root / "shared"
    shared.mkdir()
    (shared / "greeting").write_text("hello")
    hot = [
        *cold,
        a_disk(lab, "hot", USER),
        {"id": "net0", "type": "net", "kind": "tap"},
        {"id": "port1", "type": "serial", "name": "org.example.hot"},
    ]
    share = {"id": "share0", "type": "fs", "tag": "work", "path": str(shared)}
    lab.run(vcpus=2, memory_mb=320, devices=[*hot, share])
    guest.eventually("nproc", "^2$")
    guest.eventually("cat /sys/block/vdb/serial", "hot")
    assert guest.run("head -c 11 /dev/vdb") == "this is hot"
    guest.eventually("ls /sys/class/net", "eth0")
    guest.eventually("cat /sys/class/virtio-ports/*/name", "org.example.hot")
    guest.eventually("mkdir -p /mnt/w && mount -t virtiofs work /mnt/w && cat /mnt/w/greeting", "hello")
    guest.run("umount /mnt/w")
    check_process(lab.run()["sandbox"]["pid"])

    with pytest.raises(AssetError, match=f"the user {USER} must be able to read and write to this") as refused:
        lab.run(devices=[*hot, share, a_disk(lab, "secret", "root")])
    assert "secret.raw" in str(refused.value)
    lab.run(devices=hot)
    guest.close()

    lab.run(state="saved")
    restored = lab.run(state="started")["sandbox"]
    check_process(restored["pid"])
    guest = lab.shell()
    assert guest.run("nproc; head -c 11 /dev/vdb") == "2\nthis is hot"
    assert os.stat(lab.run_path("")).st_mode & 0o777 == 0o710
    # What it can write to in its directory are the files that were made for it.
    assert {path.name for path in lab.run_path("").iterdir() if path.owner() == USER} == {
        "console.log",
        "console.log.old",
        *(f"channel-{number}.{end}" for number in range(4) for end in ("in", "out")),
        "events.in",
        "events.out",
        "pid",
    }
    assert lab.run(devices=[])["sandbox"]["devices"] == []
    assert not list(lab.run_path("").glob("port-*.sock"))
    assert lab.run(state="stopped", stop_timeout=0)["sandbox"]["state"] == "stopped"
    assert lab.run()["changed"] is False
    # Back to the user of the task, with the same files.
    root = lab.run(state="started", vmm_user="root")["sandbox"]
    assert pathlib.Path(f"/proc/{root['pid']}").stat().st_uid == 0
    assert os.stat(lab.run_path("")).st_mode & 0o777 == 0o700


def test_what_it_may_not_open_is_named_before_anything_starts(lab: QemuLab, guest_files: dict[str, str]) -> None:
    os.chmod(guest_files["initrd_path"], 0o600)
    with pytest.raises(AssetError, match=f"the user {USER} must be able to read this") as refused:
        lab.start(vmm_user=USER, **guest_files)
    assert "initrd_path" in str(refused.value) and not list(lab.root.glob("run/*"))
    os.chmod(guest_files["initrd_path"], 0o644)
    lab.root.chmod(0o700)
    with pytest.raises(AssetError, match=f"the user {USER} must be able to"):
        lab.start(vmm_user=USER, **guest_files)
    lab.root.chmod(0o711)
    with pytest.raises(ConfigError, match="user does not exist"):
        lab.start(vmm_user="nobody-at-all", **guest_files)
    assert lab.processes() == []


def test_a_template_and_its_clones_are_that_users(lab: QemuLab, guest_files: dict[str, str]) -> None:
    memory = lab.root / "memory"
    memory.mkdir()
    where = {"state_dir": str(lab.root / "state"), "run_dir": str(lab.root / "run")}
    wanted = {
        **where,
        **guest_files,
        "memory_mb": 192,
        "max_memory_mb": 512,
        "accelerator": "tcg",
        "vmm_user": USER,
        "kernel_params": ["kata.shell=ttyS0"],
        "wait_for": {"console": "kata-guest: ready", "timeout": 120},
    }
    try:
        with pytest.raises(AssetError, match=f"the user {USER} must be able to"):
            (lab.root / "state").mkdir(mode=0o700)
            converge_template(parse_template_spec({"id": "base", **wanted}), False)
        made = converge_template(parse_template_spec({"id": "base", "memory_dir": str(memory), **wanted}), False)[
            "template"
        ]
        path = pathlib.Path(made["memory_path"])
        assert path.owner() == USER and path.stat().st_mode & 0o777 == 0o600
        assert path.parent.owner() == "root" and path.parent.stat().st_mode & 0o777 == 0o710
        before = hashlib.sha256(path.read_bytes()).digest()
        facts = lab.run(id="one", template="base", memory_mb=320)["sandbox"]
        check_process(facts["pid"])
        lab.shell("one").run("dd if=/dev/urandom of=/noise bs=1M count=8 2>/dev/null")
        assert hashlib.sha256(path.read_bytes()).digest() == before
    finally:
        lab.run(id="one", state="absent", stop_timeout=0)
        converge_template(parse_template_spec({"id": "base", "state": "absent", "force": True, **where}), False)


def test_a_user_without_access_to_volumes_and_seeds_runs_a_vm_that_has_them(
    lab: QemuLab, guest_files: dict[str, str]
) -> None:
    """They belong to root, and QEMU gets them opened."""
    volume = {"name": "data", "size_mb": 8, "filesystem": "none"}
    ready = {"console": "kata-guest: ready", "timeout": 300}
    lab.start(vmm_user=USER, volumes=[volume], hostname="web", wait_for=ready, **guest_files)
    assert {device["id"] for device in lab.facts()["devices"] if device["plugged"]} == {"vol-data", "cidata"}
    grown = lab.run(volumes=[{**volume, "size_mb": 16}, {**volume, "name": "more", "keep": False}])
    assert "grow volume data 8 -> 16 MiB" in grown["actions"]
    assert all(device["plugged"] for device in lab.facts()["devices"])
