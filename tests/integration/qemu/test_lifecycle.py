# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a sandbox on real QEMU, told by the guest: boot, pause, resume, resize, save, restore, stop."""

from __future__ import annotations

import os
import pathlib
import re
import sys
from typing import Callable

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError, LaunchError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.processes import identify
from tests.support.qemu_lab import QemuLab


def console(lab: QemuLab, sandbox: str = "web") -> str:
    """All that the guest has printed."""
    return str(lab.run_path("console.log", sandbox).read_text(errors="replace"))


@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_the_guest_confirms_every_change(lab: QemuLab, machine: str) -> None:
    first = lab.start(machine_type=machine, max_vcpus=4, memory_mb=192, max_memory_mb=1024)
    assert first["changed"] and first["sandbox"]["state"] == "started"
    assert lab.run(state="started")["changed"] is False
    assert "nproc=1" in console(lab)

    assert lab.run(state="paused")["actions"] == ["pause"]
    assert lab.run(state="paused")["changed"] is False
    assert lab.run(state="started")["actions"] == ["resume"]

    lab.run(vcpus=3, wait_for={"console": "kata-guest: nproc=3", "timeout": 60})
    assert lab.run(vcpus=3)["changed"] is False
    lab.run(memory_mb=512, wait_for={"console": r"kata-guest: nproc=3 memtotal_kb=4[0-9]{5}", "timeout": 60})
    shrunk = lab.run(memory_mb=256)
    assert shrunk["sandbox"]["memory_mb"] == 256
    assert lab.run(memory_mb=256, vcpus=3)["changed"] is False
    guest = lab.shell()
    assert guest.run("nproc") == "3"
    total = int(guest.run("awk '/MemTotal/ {print $2}' /proc/meminfo"))
    assert 150_000 < total < 256 * 1024


def test_memory_modules_where_virtio_mem_is_not_wanted(lab: QemuLab) -> None:
    lab.start(memory_hotplug="pc-dimm", memory_mb=192, max_memory_mb=1024)
    lab.run(memory_mb=448, wait_for={"console": r"memtotal_kb=4[0-9]{5}", "timeout": 60})
    for check_mode in (True, False):
        for wanted, words in ((500, "steps of 128 MiB"), (320, "only whole modules")):
            with pytest.raises(HypervisorError, match=words):
                lab.run(check_mode=check_mode, memory_mb=wanted)
    assert lab.run(memory_mb=192)["sandbox"]["memory_mb"] == 192


def test_a_balloon_gives_back_and_takes_again(lab: QemuLab) -> None:
    """The guest keeps what it boots with; the balloon in it holds what it shall not use."""
    lab.start(memory_hotplug="balloon", memory_mb=256, max_memory_mb=384)
    guest = lab.shell()
    free = "awk '/MemFree/ {print int($2 / 1024)}' /proc/meminfo"
    wide = guest.eventually(free, "^[0-9]+$")
    assert lab.run()["changed"] is False
    shrunk = lab.run(memory_mb=192)
    assert shrunk["resized"] == {"memory_mb": "balloon"} and shrunk["sandbox"]["memory_mb"] == 192
    assert lab.run(memory_mb=192)["changed"] is False
    assert int(guest.run(free)) < int(wide) - 40
    assert lab.run(memory_mb=384)["sandbox"]["memory_mb"] == 384
    assert int(guest.run(free)) > int(wide) + 80
    with pytest.raises(HypervisorError, match=r"the guest has [0-9]+ MiB"):
        lab.run(memory_mb=8)
    assert guest.run("echo alive") == "alive"
    assert lab.run(memory_mb=320)["sandbox"]["memory_mb"] == 320
    guest.close()
    lab.run(state="saved")
    assert lab.run(state="started")["sandbox"]["memory_mb"] == 320
    assert lab.run(memory_mb=256)["sandbox"]["memory_mb"] == 256


def test_fewer_vcpus_under_tcg_are_refused_and_the_vm_survives(lab: QemuLab) -> None:
    lab.start(vcpus=2, max_vcpus=4)
    with pytest.raises(HypervisorError) as refused:
        lab.run(vcpus=1)
    assert "restart" in str(refused.value)
    assert lab.run()["sandbox"]["state"] == "started"
    restarted = lab.run(vcpus=1, disruption="restart", wait_for={"console": "ready nproc=1", "timeout": 120})
    assert restarted["sandbox"]["vcpus"] == 1


def test_microvm_is_made_whole_at_its_start(lab: QemuLab) -> None:
    disk = lab.root / "disk.raw"
    disk.write_bytes(b"from the host".ljust(1 << 20, b"\0"))
    data = {
        "id": "data0",
        "type": "block",
        "file": str(disk),
        "driver": "virtio-blk",
        "rate_limit": {"ops": 1, "ops_burst": 1},
    }
    lab.start(machine_type="microvm", memory_hotplug="balloon", devices=[data])
    guest = lab.shell()
    reads = "for i in 0 40 80 120; do dd if=/dev/vda of=/dev/null bs=4k skip=$i count=1 2>/dev/null; done"

    def seconds_to_read() -> float:
        before, after = (
            float(line.split()[0])
            for line in guest.run(
                f"echo 3 > /proc/sys/vm/drop_caches; cat /proc/uptime; {reads}; cat /proc/uptime"
            ).splitlines()
        )
        return after - before

    assert guest.eventually("head -c 13 /dev/vda", "from") == "from the host"
    # Four reads, one of them at once and each of the others a second later.
    assert seconds_to_read() > 2
    assert lab.run(devices=[{**data, "rate_limit": {"ops": 100000}}])["actions"] == ["change block data0"]
    # A busy machine slows some attempts down, a limit all.
    assert any(seconds_to_read() < 2 for _attempt in range(8))
    assert lab.run(memory_mb=160)["sandbox"]["memory_mb"] == 160
    for change in ({"vcpus": 2}, {"devices": []}):
        with pytest.raises(HypervisorError, match="restart"):
            lab.run(**change)


def test_saved_and_restored_with_all_that_was_plugged_in(lab: QemuLab) -> None:
    disk = lab.root / "disk.raw"
    disk.write_bytes(b"from the host".ljust(1 << 20, b"\0"))
    lab.start(max_vcpus=4, memory_mb=192, max_memory_mb=1024, words=("kata.tick",))
    lab.run(
        vcpus=2, memory_mb=320, devices=[{"id": "data0", "type": "block", "file": str(disk), "driver": "virtio-blk"}]
    )
    guest = lab.shell()
    guest.eventually("nproc", "^2$")
    guest.run("echo remembered > /note")
    guest.close()
    pid = lab.run()["sandbox"]["pid"]
    saved = lab.run(state="saved")
    assert saved["sandbox"]["state"] == "saved" and identify(pid) is None
    assert lab.run(state="saved")["changed"] is False
    for check_mode in (True, False):
        with pytest.raises(HypervisorError, match=r"booted with 192.*needs a restart|needs a restart.*booted with 192"):
            lab.run(check_mode=check_mode, state="started", memory_mb=128)
    restored = lab.run(state="started")
    assert "restore" in " ".join(restored["actions"])
    guest = lab.shell()
    assert guest.run("cat /note; nproc; head -c 13 /dev/vda") == "remembered\n2\nfrom the host"
    assert lab.run(state="started", vcpus=2, memory_mb=320)["changed"] is False


def test_a_saved_state_waits_for_the_qemu_that_it_is_of(lab: QemuLab) -> None:
    """An upgrade of the host's packages puts another QEMU under the same path; a downgrade brings the old one back."""
    qemu = lab.root / "qemu"
    qemu.symlink_to("/usr/bin/qemu-system-x86_64")
    lab.start(hypervisor_path=str(qemu))
    lab.shell().run("echo remembered > /note")
    lab.run(state="saved")
    qemu.unlink()
    qemu.write_text("#!/bin/sh\necho QEMU emulator version 99.0.0\n")
    qemu.chmod(0o755)
    with pytest.raises(HypervisorError, match=r"saved by QEMU [0-9.]+, and this is QEMU 99\.0\.0"):
        lab.run(state="started")
    assert lab.facts()["state"] == "saved" and lab.processes() == []
    qemu.unlink()
    qemu.symlink_to("/usr/bin/qemu-system-x86_64")
    assert lab.run(state="started")["actions"] == ["restore", "resume"]
    assert lab.shell().run("cat /note") == "remembered"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python has no tomllib")
def test_a_kata_configuration_file_makes_a_sandbox(lab: QemuLab) -> None:
    file = lab.root / "configuration.toml"
    file.write_text(f"""\
[hypervisor.qemu]
path = "/usr/bin/qemu-system-x86_64"
kernel = "{lab.assets.kernel}"
initrd = "{lab.assets.initrd}"
machine_type = "q35"
default_vcpus = 1
default_memory = 192
kernel_params = "kata.shell=ttyS0 kata.from=file"
""")
    wish = {
        "config_file": str(file),
        "accelerator": "tcg",
        "wait_for": {"console": "kata-guest: ready", "timeout": 120},
    }
    facts = lab.run(memory_mb=200, **wish)["sandbox"]
    assert (facts["memory_mb"], facts["options"]["machine_type"]) == (200, "q35")
    assert "kata.from=file" in lab.shell().run("cat /proc/cmdline")
    assert lab.run(memory_mb=200, **wish)["changed"] is False


def test_stop_asks_the_guest_and_does_not_depend_on_its_answer(lab: QemuLab) -> None:
    lab.start()
    assert lab.run(state="stopped", stop_timeout=30)["sandbox"]["state"] == "stopped"
    assert re.search(r"Power down|reboot: ", console(lab)), "the guest powered itself off"
    lab.run(state="started")
    # A guest that is still in its firmware answers no power button.
    assert lab.run(state="stopped", stop_timeout=1)["sandbox"]["state"] == "stopped"
    assert lab.run(state="stopped")["changed"] is False


def test_restarted_always_acts(lab: QemuLab) -> None:
    lab.start()
    before = lab.run()["sandbox"]["pid"]
    assert lab.run(state="restarted", stop_timeout=0)["changed"] is True
    assert lab.run()["sandbox"]["pid"] != before


def test_check_mode_tells_what_happens_and_touches_nothing(lab: QemuLab) -> None:
    wish = {
        "kernel_path": str(lab.assets.kernel),
        "initrd_path": str(lab.assets.initrd),
        "memory_mb": 192,
        "accelerator": "tcg",
    }
    foretold = lab.check(state="started", **wish)
    assert foretold["changed"] and not list(lab.root.iterdir())
    assert lab.run(state="started", **wish)["actions"] == foretold["actions"]
    foretold = lab.check(vcpus=2, state="paused")
    assert lab.run()["sandbox"]["state"] == "started"
    assert lab.run(vcpus=2, state="paused")["actions"] == foretold["actions"]


def test_the_facts_are_the_machines(lab: QemuLab, tool: Callable[..., str]) -> None:
    facts = lab.start(vcpus=2)["sandbox"]
    assert os.readlink(f"/proc/{facts['pid']}/exe").endswith("qemu-system-x86_64")
    threads = set(os.listdir(f"/proc/{facts['pid']}/task"))
    assert len(facts["thread_ids"]) == 2 and {str(thread) for thread in facts["thread_ids"].values()} <= threads
    status = pathlib.Path(f"/proc/{facts['pid']}/status").read_text()
    assert "Seccomp:\t2" in status, "QEMU confines itself"
    own = os.stat(lab.run_path(""))
    if os.geteuid() == 0:
        # Its group is the sandbox's own user, which may reach what it knows by name.
        assert own.st_mode & 0o777 == 0o710 and own.st_uid == 0 and own.st_gid == facts["vmm_uid"]
    else:
        assert own.st_mode & 0o777 == 0o700
    for name in ("qmp.sock", "monitor.sock", "console.sock"):
        assert os.stat(lab.run_path(name)).st_mode & 0o077 == 0


def test_a_launch_error_carries_exit_code_command_line_and_last_words(lab: QemuLab) -> None:
    with pytest.raises(LaunchError) as failed:
        lab.start(cpu_model="no-such-model")
    error = failed.value
    assert error.exit_code == 1 and "no-such-model" in error.argv
    assert "unable to find CPU model" in error.answer and "web" in str(error)
    assert lab.processes() == []


def test_wait_for_fails_with_the_last_lines_of_the_console(lab: QemuLab) -> None:
    lab.start()
    with pytest.raises(HypervisorError) as failed:
        lab.run(wait_for={"console": "this never comes", "timeout": 1})
    assert "kata-guest: ready" in str(failed.value) and "this never comes" in str(failed.value)
    assert lab.run()["sandbox"]["state"] == "started"
