# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user for each sandbox: what its QEMU is, what it has open, and that no file of anybody's changes for it."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import stat
import subprocess
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.host import id_mapped_mounts, users
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import jailer
from tests.support.qemu_lab import QemuLab
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a VMM as another user")


def a_disk(lab: QemuLab, name: str, image_format: str = "raw") -> dict[str, Any]:
    """A disk of root's alone."""
    path = lab.root / f"{name}.{image_format}"
    path.write_bytes(f"this is {name}".encode().ljust(1 << 20, b"\0"))
    if image_format == "qcow2":
        shutil.move(path, lab.root / "raw")
        subprocess.run(
            ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(lab.root / "raw"), str(path)], check=True
        )
    path.chmod(0o600)
    return {
        "id": name,
        "type": "block",
        "file": str(path),
        "driver": "virtio-blk",
        "serial": name,
        "format": image_format,
    }


def check_process(pid: int, uid: int) -> None:
    """The process has that user's ids alone, no capability, and confines itself."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    for name in ("Uid", "Gid"):
        assert re.search(rf"^{name}:(\s+{uid}){{4}}$", status, re.MULTILINE), status
    groups = re.search(r"^Groups:(.*)$", status, re.MULTILINE)
    assert groups and groups[1].split() == [str(uid)], status
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE) and re.search(r"^CapPrm:\s+0+$", status, re.MULTILINE)
    assert "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status


def owners(lab: QemuLab) -> dict[str, tuple[int, int, int]]:
    """Owner, group and mode of every file that a user has named."""
    named = [path for path in lab.root.iterdir() if path.is_file() and not path.is_symlink()]
    return {path.name: (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode) for path in named}


@pytest.mark.parametrize("readable", [True, False], ids=["guest files that all can read", "guest files of root alone"])
def test_it_lives_as_a_user_of_its_own(lab: QemuLab, readable: bool) -> None:
    """It starts as that user where it may read what it takes by name only, and becomes it before the guest runs where not."""
    lab.root.chmod(0o711 if readable else 0o700)
    files = {}
    for option, source in (("kernel_path", lab.assets.kernel), ("initrd_path", lab.assets.initrd)):
        files[option] = str(shutil.copyfile(source, lab.root / option))
        os.chmod(files[option], 0o644 if readable else 0o600)
    shared = lab.root / "shared"
    shared.mkdir(mode=0o700)
    (shared / "greeting").write_text("hello")
    cold = [
        a_disk(lab, "cold"),
        {**a_disk(lab, "image", "qcow2"), "read_only": True},
        {"id": "port0", "type": "serial", "name": "org.example.cold"},
    ]
    linked = lab.root / "linked"
    linked.symlink_to(shared)
    hot = [
        a_disk(lab, "hot"),
        {"id": "net0", "type": "net", "kind": "tap"},
        {"id": "share0", "type": "fs", "tag": "work", "path": str(linked)},
    ]
    before = owners(lab)
    facts = lab.start(shared_fs="virtio-fs", max_vcpus=2, max_memory_mb=512, devices=cold, **files)["sandbox"]
    uid = facts["vmm_uid"]
    assert users.is_own_uid(uid)
    check_process(facts["pid"], uid)
    words = pathlib.Path(f"/proc/{facts['pid']}/cmdline").read_text().split("\0")
    assert ("-runas" in words or "-run-with" in words) == (not readable)
    assert lab.run(state="started")["changed"] is False
    guest = lab.shell()
    assert guest.run("head -c 12 /dev/vda; head -c 13 /dev/vdb") == "this is coldthis is image"
    lab.run(vcpus=2, memory_mb=320, devices=[*cold, *hot])
    guest.eventually("cat /sys/block/vdc/serial", "hot")
    assert guest.run("head -c 11 /dev/vdc; printf written | dd of=/dev/vdc conv=fsync 2>/dev/null").startswith(
        "this is hot"
    )
    assert (lab.root / "hot.raw").read_bytes().startswith(b"written")
    guest.eventually("ls /sys/class/net", "eth0")
    guest.eventually("mkdir -p /mnt/w && mount -t virtiofs work /mnt/w && cat /mnt/w/greeting", "hello")
    guest.run("umount /mnt/w")
    lab.run(devices=[*cold, hot[0]])
    guest.close()

    lab.run(state="saved")
    restored = lab.run(state="started")["sandbox"]
    check_process(restored["pid"], uid)
    guest = lab.shell()
    guest.eventually("nproc; head -c 7 /dev/vdc", "^2\nwritten$")
    assert lab.device(**{**hot[0], "rate_limit": {"ops": 1000}})["actions"] and lab.device(**hot[0])["actions"]
    assert owners(lab) == before
    # Nobody but root can make a name in its directory, and nobody else reads what is in it.
    run = lab.run_path("")
    assert run.stat().st_uid == 0 and stat.S_IMODE(run.stat().st_mode) == 0o710
    assert {path.name for path in run.iterdir() if path.stat().st_uid} == {
        "console.log",
        "console.log.old",
        *(f"channel-{number}.{end}" for number in range(4) for end in ("in", "out")),
        "events.in",
        "events.out",
        "pid",
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in run.iterdir())
    assert lab.run(devices=[])["sandbox"]["devices"] == []
    lab.run(state="stopped", stop_timeout=0)
    again = lab.run(state="started")["sandbox"]
    assert again["vmm_uid"] == uid
    assert lab.run(state="started", vmm_user="root", disruption="restart")["sandbox"]["vmm_uid"] == 0


def test_each_has_another_user_and_one_disk_serves_one(lab: QemuLab) -> None:
    disk = a_disk(lab, "data")
    one = lab.start("one", wait_for=None, devices=[disk])["sandbox"]
    two = lab.start("two", wait_for=None)["sandbox"]
    assert len({one["vmm_uid"], two["vmm_uid"]} | {0}) == 3
    (lab.root / "link").symlink_to(disk["file"])
    for check_mode in (True, False):
        for path in (disk["file"], str(lab.root / "link")):
            with pytest.raises(
                HypervisorError,
                match=rf"{path} is in use: sandbox one .qemu-system-\w+, pid {one['pid']}. writes to it",
            ):
                lab.run(check_mode=check_mode, id="two", devices=[{**disk, "file": path}])
        boot = {"kernel_path": str(lab.assets.kernel), "initrd_path": str(lab.assets.initrd), "accelerator": "tcg"}
        free = a_disk(lab, "free")
        with pytest.raises(HypervisorError, match="device copy and device free must not be the same file"):
            lab.run(check_mode=check_mode, id="three", state="started", devices=[free, {**free, "id": "copy"}], **boot)
    lab.run(id="two", devices=[free])
    with pytest.raises(HypervisorError, match="device copy and device free must not be the same file"):
        lab.run(id="two", devices=[free, {**free, "id": "copy"}])
    assert lab.run(id="two", devices=[free])["changed"] is False
    # What a VMM has started, or become, ends with it.
    child = subprocess.Popen(["/bin/sleep", "60"], user=two["vmm_uid"], group=two["vmm_uid"], extra_groups=[])
    lab.run(id="two", state="absent", stop_timeout=0)
    assert child.wait(PATIENCE) == -9 and lab.run(id="one")["sandbox"]["pid"] == one["pid"]


def test_the_numbers(tmp_path: pathlib.Path) -> None:
    assert (users.FIRST_UID, users.UIDS) == (jailer.FIRST_UID, jailer.UIDS)
    run, jails = tmp_path / "run" / "web", tmp_path / "jails"
    first = users.own_uid(str(run), str(jails))
    assert users.is_own_uid(first) and users.own_uid(str(run), str(jails)) == first
    assert users.own_uid(str(tmp_path / "elsewhere" / "web"), str(jails)) != first
    # A jail, a sandbox beside it or a process has it.
    root = jails / "firecracker" / "x" / "root"
    root.mkdir(parents=True)
    os.chown(root, first, first)
    second = users.own_uid(str(run), str(jails), first)
    assert second == first + 1
    (run.parent / "other").mkdir(parents=True)
    os.chown(run.parent / "other", 0, second)
    assert users.own_uid(str(run), str(jails)) == second + 1
    assert os.getpid() in users.owners_of_processes()
    with subprocess.Popen(["/bin/sleep", "60"], user=second + 1, group=second + 1, extra_groups=[]) as process:
        assert users.own_uid(str(run), str(jails)) == second + 2
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert users.own_uid(str(run), str(jails)) == second + 1, "what has ended and was not reaped counts no more"
    assert not users.is_own_uid(users.own_uid(str(run), str(jails), 65534) - users.UIDS)


def test_what_the_modes_allow(tmp_path: pathlib.Path) -> None:
    user = users.own_user("web", users.FIRST_UID)
    file = tmp_path / "file"
    file.write_text("x")
    for above in (tmp_path, *tmp_path.parents):
        if above != pathlib.Path("/") and not above.stat().st_mode & 0o001:
            assert not users.may_use(user, str(file), "r")
            above.chmod(above.stat().st_mode | 0o001)
    for mode, modes, allowed in ((0o604, "r", True), (0o604, "rw", False), (0o660, "r", False), (0o646, "rw", True)):
        file.chmod(mode)
        assert users.may_use(user, str(file), modes) is allowed
    os.chown(file, -1, users.FIRST_UID)
    file.chmod(0o640)
    assert users.may_use(user, str(file), "r") and not users.may_use(user, str(tmp_path / "gone"), "r")


def test_a_file_is_opened_for_one_user_and_stays_as_it_is(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    file.write_text("before")
    file.chmod(0o600)
    before = file.stat()
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()
    try:
        descriptor = id_mapped_mounts.open_for(str(file), users.FIRST_UID)
    except OSError as error:
        pytest.skip(f"no ID-mapped mounts here: {error}")
    script = f"printf after > /proc/self/fd/{descriptor}; cat {file} 2>/dev/null || echo denied"
    for uid, answer in ((users.FIRST_UID, "after"), (users.FIRST_UID + 1, "before")):
        file.write_text("before")
        done = subprocess.run(
            ["/bin/sh", "-c", script],
            user=uid,
            group=uid,
            extra_groups=[],
            cwd="/",
            pass_fds=[descriptor],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.stdout == "denied\n" and file.read_text() == answer
    os.close(descriptor)
    after = file.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert pathlib.Path("/proc/self/mountinfo").read_text() == mounts
    with pytest.raises(FileNotFoundError):
        id_mapped_mounts.open_for(str(tmp_path / "gone"), users.FIRST_UID)
