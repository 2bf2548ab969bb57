# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates on real QEMU: made once, begun from many times, and never changed by those who do."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import shutil
import time
from typing import Any, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import (
    converge_template,
    list_templates,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_template_spec
from tests.support.guest_assets import Assets
from tests.support.lab import removed_afterwards
from tests.support.qemu_lab import QemuLab

#: Printed by the guest's shell when it is told to; what happened before is in the template's memory.
READY = {"console": "kata-guest: ready", "timeout": 120}


def template(lab: QemuLab, check_mode: bool = False, **options: Any) -> dict[str, Any]:
    """Run a kata_template task."""
    return converge_template(parse_template_spec({"id": "base", **lab.directories(), **options}), check_mode)


def wish(lab: QemuLab, **options: Any) -> dict[str, Any]:
    """What our template is made from."""
    return {
        "kernel_path": str(lab.root / "vmlinuz"),
        "initrd_path": str(lab.assets.initrd),
        "kernel_params": ["kata.shell=ttyS0"],
        "accelerator": "tcg",
        "memory_mb": 192,
        "max_memory_mb": 1024,
        "vcpus": 1,
        "max_vcpus": 4,
        "wait_for": READY,
        **options,
    }


def digest(path: str) -> str:
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


class TemplateLab(QemuLab):
    """Sandboxes, and a template for them."""

    #: The template's facts.
    base: dict[str, Any]


@pytest.fixture(scope="module")
def base(assets: Assets) -> Iterator[TemplateLab]:
    """Sandboxes and a template that all tests share."""
    with removed_afterwards(TemplateLab(assets)) as lab:
        shutil.copy(assets.kernel, lab.root / "vmlinuz")
        made = template(lab, **wish(lab))
        assert made["actions"] == ["create", "start", "pause", "save", "stop the VMM"]
        lab.base = made["template"]
        yield lab
        template(lab, state="absent", force=True)
        assert not list((lab.root / "state/templates").iterdir())


def test_a_template_is_made_once(base: TemplateLab) -> None:
    facts = base.base
    assert facts["state"] == "ready" and facts["stale"] == []
    assert not template(base, **wish(base))["changed"]
    assert template(base, True, **wish(base))["actions"] == []
    for path in (facts["state_dir"], os.path.dirname(facts["memory_path"])):
        assert os.stat(path).st_mode & 0o777 == 0o700
    assert os.stat(facts["memory_path"]).st_mode & 0o777 == 0o600
    assert os.path.getsize(facts["memory_path"]) == 192 << 20
    # The memory is not written a second time.
    assert os.path.getsize(f"{facts['state_dir']}/saved/memory") < 16 << 20
    assert base.processes() == []


def open_modes(pid: int, path: str) -> set[int]:
    """How a process has a file open."""
    process = pathlib.Path(f"/proc/{pid}")
    mine = [entry.name for entry in (process / "fd").iterdir() if os.path.realpath(entry) == os.path.realpath(path)]
    return {
        int(re.findall(r"flags:\s+(\d+)", (process / "fdinfo" / number).read_text())[0], 8) & os.O_ACCMODE
        for number in mine
    }


def test_clones_have_its_memory_and_keep_their_own(base: TemplateLab) -> None:
    before = digest(base.base["memory_path"])
    for name in ("one", "two"):
        started = base.run(id=name, template="base")
        assert started["actions"] == ["create", "start from template base"]
        assert started["sandbox"]["state"] == "started" and started["sandbox"]["memory_mb"] == 192
        assert not base.run(id=name, template="base")["changed"]
    one, two = base.shell("one"), base.shell("two")
    # The guest does not boot again: what it printed then is in the template's console log, not in theirs.
    assert "Linux version" not in base.run_path("console.log", "one").read_text(errors="replace")
    assert float(one.run("cut -d' ' -f1 /proc/uptime")) > 0.5
    one.run("echo one > /mark && dd if=/dev/urandom of=/noise bs=1M count=20 2>/dev/null")
    two.run("test ! -e /mark && echo two > /mark")
    assert (one.run("cat /mark"), two.run("cat /mark")) == ("one", "two")
    assert digest(base.base["memory_path"]) == before
    # From 8.2 on, QEMU could not write to it even if its guest took it over.
    modes = open_modes(started["sandbox"]["pid"], base.base["memory_path"])
    assert modes == {os.O_RDWR if base.lacks(started, 8, 2) else os.O_RDONLY}
    found = list_templates(base.spec(id="one"))
    assert [(facts["id"], facts["state"], facts["clones"]) for facts in found] == [("base", "ready", ["one", "two"])]
    with pytest.raises(HypervisorError, match="no clone of this template may run, but these do: one, two"):
        template(base, state="absent")
    for name in ("one", "two"):
        base.run(id=name, state="absent", stop_timeout=0)
    assert template(base, **wish(base))["changed"] is False


def test_a_clone_has_more_vcpus_memory_and_devices(base: TemplateLab) -> None:
    disk = base.root / "disk.raw"
    disk.write_bytes(b"from the host".ljust(1 << 20, b"\0"))
    devices = [{"id": "data0", "type": "block", "file": str(disk), "driver": "virtio-blk"}]
    facts = base.run(id="large", template="base", vcpus=3, memory_mb=512, devices=devices)["sandbox"]
    assert (facts["vcpus"], facts["memory_mb"], facts["devices"][0]["plugged"]) == (3, 512, True)
    guest = base.shell("large")
    guest.eventually("nproc", "^3$")
    assert int(guest.run("awk '/MemTotal/ {print $2}' /proc/meminfo")) > 400_000
    assert guest.eventually("head -c 13 /dev/vda", "from") == "from the host"
    guest.run("echo kept > /note")
    guest.close()
    assert not base.run(id="large", template="base", vcpus=3, memory_mb=512, devices=devices)["changed"]
    # A clone is saved and restored by itself: it has all of its memory then.
    base.run(id="large", state="saved")
    assert base.run(id="large", state="started")["actions"] == ["restore", "resume"]
    guest = base.shell("large")
    assert guest.run("cat /note; nproc; head -c 13 /dev/vda") == "kept\n3\nfrom the host"
    guest.close()
    # And begins from the template again when it is started anew.
    assert "start from template base" in base.run(id="large", state="restarted", stop_timeout=0)["actions"]
    base.shell("large").run("test ! -e /note")
    base.run(id="large", state="absent", stop_timeout=0)


def test_a_pc_with_an_image_that_its_clones_share(shared_lab: QemuLab, root_image: pathlib.Path) -> None:
    """The image is the template's and its clones' alike, read-only; vCPUs, memory and disks are each clone's own."""
    before = digest(str(root_image))
    wanted = wish(
        shared_lab, id="pc", kernel_path=str(shared_lab.assets.kernel), machine_type="pc", image_path=str(root_image)
    )
    wanted.update(
        initramfs_path=wanted.pop("initrd_path"),
        kernel_params=[],
        wait_for={"console": "ready from image", "timeout": 120},
    )
    try:
        assert "save" in template(shared_lab, **wanted)["actions"]
        disk = shared_lab.root / "pc-disk.raw"
        disk.write_bytes(b"its own".ljust(1 << 20, b"\0"))
        own = [{"id": "data0", "type": "block", "file": str(disk), "driver": "virtio-scsi"}]
        shared_lab.run(id="small", template="pc")
        facts = shared_lab.run(id="wide", template="pc", vcpus=2, memory_mb=384, devices=own)["sandbox"]
        assert (facts["vcpus"], facts["memory_mb"]) == (2, 384)
        small, wide = shared_lab.shell("small"), shared_lab.shell("wide")
        wide.eventually("cat /sys/devices/system/cpu/present", "^0-1$")
        assert small.run("cat /sys/devices/system/cpu/present") == "0"
        for guest in (small, wide):
            # Read from the image now, by each of them.
            assert guest.run("echo 3 > /proc/sys/vm/drop_caches; busybox grep -c kata-guest /sbin/init") == "1"
        assert wide.eventually("head -c 7 /dev/sda", "its") == "its own"
        assert small.attempt("head -c 7 /dev/sda")[0] != 0
        with pytest.raises(HypervisorError, match="created with image_path"):
            shared_lab.run(id="other", template="pc", image_path="/bin/true")
    finally:
        for name in ("small", "wide"):
            shared_lab.run(id=name, state="absent", stop_timeout=0)
        template(shared_lab, id="pc", state="absent", force=True)
    assert digest(str(root_image)) == before


def test_a_clone_of_a_microvm_is_as_its_template_is(shared_lab: QemuLab) -> None:
    wanted = wish(
        shared_lab, id="micro", kernel_path=str(shared_lab.assets.kernel), machine_type="microvm", max_memory_mb=192
    )
    try:
        template(shared_lab, **wanted)
        for options, words in (
            ({"vcpus": 2}, "clone on machine type microvm"),
            ({"memory_mb": 256, "max_memory_mb": 256}, "max_memory_mb"),
            ({"devices": [{"id": "p", "type": "serial"}]}, "devices on machine type microvm"),
        ):
            with pytest.raises(HypervisorError, match=words):
                shared_lab.run(id="m", template="micro", **options)
        assert shared_lab.facts("m")["state"] == "absent"
        shared_lab.run(id="m", template="micro")
        assert shared_lab.shell("m").run("nproc") == "1"
    finally:
        shared_lab.run(id="m", state="absent", stop_timeout=0)
        template(shared_lab, id="micro", state="absent", force=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel_params": ["other"]}, "created with kernel_params"),
        ({"max_vcpus": 2}, "created with max_vcpus 4"),
        ({"machine_type": "pc"}, "created with machine_type"),
        ({"memory_mb": 128}, "the template has 192"),
        ({"memory_mb": 2048}, "maximum of 1024"),
        ({"shared_fs": "virtio-fs"}, "shared_fs"),
        ({"template": "nosuch"}, "no such template"),
        ({"kernel_path": "/bin/true"}, "created with kernel_path"),
    ],
)
def test_what_a_clone_cannot_be_is_refused_before_anything_is_made(
    base: TemplateLab, options: dict[str, Any], words: str
) -> None:
    for check_mode in (True, False):
        with pytest.raises(HypervisorError, match=words):
            base.run(check_mode=check_mode, **{"id": "bad", "template": "base", **options})
    assert base.facts("bad")["state"] == "absent" and base.processes() == []


def test_another_kernel_is_noticed_refused_and_made_good(base: TemplateLab) -> None:
    kernel = base.root / "vmlinuz"
    base.run(id="old", template="base")
    # The same content is the same kernel.
    os.utime(kernel)
    assert not template(base, True, **wish(base))["changed"]
    content = kernel.read_bytes()
    try:
        kernel.write_bytes(content + b"\0")
        with pytest.raises(HypervisorError, match=r"kernel_path .*vmlinuz has changed"):
            base.run(id="new", template="base")
        (found,) = list_templates(base.spec(id="old"))
        assert found["state"] == "stale" and "vmlinuz has changed" in found["stale"][0]
        foretold = template(base, True, **wish(base))
        made = template(base, **wish(base))
        assert foretold["actions"] == made["actions"] and "start" in made["actions"]
        assert (made["diff"]["before"]["state"], made["diff"]["after"]["state"]) == ("stale", "ready")
        assert not template(base, **wish(base))["changed"]
        # The clone of the old one has the memory that it began with.
        base.shell("old").run("cat /proc/uptime && ls /")
        base.run(id="new", template="base")
        base.shell("new").run("true")
    finally:
        kernel.write_bytes(content)
        for name in ("old", "new"):
            base.run(id=name, state="absent", stop_timeout=0)


def test_a_template_that_never_gets_ready_leaves_nothing(lab: QemuLab) -> None:
    shutil.copy(lab.assets.kernel, lab.root / "vmlinuz")
    memory = lab.root / "elsewhere"
    memory.mkdir()
    with pytest.raises(HypervisorError, match="this never comes"):
        template(lab, memory_dir=str(memory), **wish(lab, wait_for={"console": "this never comes", "timeout": 3}))
    assert lab.processes() == [] and list(memory.iterdir()) == []
    assert list_templates(lab.spec()) == []
    assert not [path for part in ("state/templates", "run") for path in (lab.root / part).glob("*") if path.is_dir()]


def test_clones_whose_agent_listens_draw_their_own_randomness_and_know_the_time(lab: QemuLab) -> None:
    shutil.copy(lab.assets.kernel, lab.root / "vmlinuz")
    wanted = wish(lab, initrd_path=str(lab.assets.agent_initrd), wait_for={"agent": True, "timeout": 120})
    try:
        template(lab, **wanted)
        time.sleep(2.5)
        drawn = []
        for name in ("one", "two"):
            before = int(time.time())
            lab.run(id=name, template="base")
            guest = lab.shell(name)
            drawn.append(guest.run("head -c 16 /dev/urandom | od -An -tx1"))
            # A clock that was not set is behind by the age of the template. Whole seconds are set.
            assert before - 1 <= int(guest.run("date +%s")) <= time.time() + 1
            assert guest.run("ls -d /run/kata-reseed* /tmp/kata-reseed* /kata-reseed* 2>/dev/null | wc -l") == "0"
        assert drawn[0] != drawn[1]
    finally:
        template(lab, state="absent", force=True)
