# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input: a clear error that names the option, the same in check mode, and nothing on the host has changed."""

from __future__ import annotations

import os
import pathlib
import socket
import stat
import subprocess
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from tests.support.qemu_lab import QemuLab

Wish = Callable[[Any, pathlib.Path], dict[str, Any]]


def an_executable(path: pathlib.Path, text: str) -> str:
    """A program that is not QEMU."""
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


CASES: dict[str, tuple[Wish, str, str]] = {
    "no kernel": (lambda lab, tmp: {"kernel_path": None}, "kernel", "kernel_path"),
    "a kernel that is not there": (
        lambda lab, tmp: {"kernel_path": "/nowhere/vmlinuz"},
        "file does not exist",
        "kernel_path",
    ),
    "image and initrd": (lambda lab, tmp: {"image_path": str(lab.assets.initrd)}, "not both", "image_path"),
    "neither image nor initrd": (lambda lab, tmp: {"initrd_path": None}, "needs an image or an initrd", "initrd_path"),
    "more vCPUs than the maximum": (lambda lab, tmp: {"vcpus": 8, "max_vcpus": 4}, "maximum of 4", "vcpus"),
    "no vCPUs": (lambda lab, tmp: {"vcpus": -1}, "must be at least 1", "vcpus"),
    "more memory than the host": (lambda lab, tmp: {"memory_mb": 1 << 26}, "the host has", "memory_mb"),
    "an unknown machine type": (lambda lab, tmp: {"machine_type": "pdp11"}, "no machine type", "machine_type"),
    "an id with a slash": (lambda lab, tmp: {"id": "a/b"}, "must be a valid id", "id"),
    "an id that leads elsewhere": (lambda lab, tmp: {"id": ".."}, "must be a valid id", "id"),
    "a socket path that is too long": (
        lambda lab, tmp: {"run_dir": str(tmp / ("d" * 100))},
        "the kernel takes 107",
        "run_dir",
    ),
    "a directory as kernel": (lambda lab, tmp: {"kernel_path": str(tmp)}, "must be a file", "kernel_path"),
    "an empty initrd": (
        lambda lab, tmp: {"initrd_path": os.devnull},
        "must be a file|must not be empty",
        "initrd_path",
    ),
    "a QEMU that is none": (
        lambda lab, tmp: {"hypervisor_path": an_executable(tmp / "qemu", "#!/bin/sh\necho Bochs 2.7\n")},
        "not a QEMU",
        "hypervisor_path",
    ),
    "a QEMU that is too old": (
        lambda lab, tmp: {
            "hypervisor_path": an_executable(tmp / "qemu", "#!/bin/sh\necho QEMU emulator version 2.5.0\n")
        },
        "older than",
        "hypervisor_path",
    ),
    "a QEMU that is no program": (
        lambda lab, tmp: {"hypervisor_path": str(lab.assets.kernel)},
        "QEMU",
        "hypervisor_path",
    ),
    "a second word for the kernel": (
        lambda lab, tmp: {"kernel_params": ["quiet\nroot=/dev/sda"]},
        "blanks outside of double quotes",
        "kernel_params",
    ),
    "a second option for QEMU": (lambda lab, tmp: {"cpu_model": "max -monitor stdio"}, "QEMU could know", "cpu_model"),
    "a relative path": (lambda lab, tmp: {"kernel_path": "vmlinuz"}, "absolute", "kernel_path"),
    "too long a command line": (lambda lab, tmp: {"kernel_params": ["a" * 2048]}, "2047", "kernel_params"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(lab: QemuLab, tmp_path: pathlib.Path, name: str) -> None:
    wish, words, option = CASES[name]
    options = {
        "kernel_path": str(lab.assets.kernel),
        "initrd_path": str(lab.assets.initrd),
        "accelerator": "tcg",
        "state": "started",
        **wish(lab, tmp_path),
    }
    options = {key: value for key, value in options.items() if value is not None}
    for check_mode in (True, False):
        with pytest.raises(HypervisorError, match=words) as refused:
            lab.run(check_mode=check_mode, **options)
        assert refused.value.option == option
    lab.ids.clear()
    assert list(lab.root.iterdir()) == [] and lab.processes() == []


@pytest.fixture
def full_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system that is full."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=True)
    try:
        (tmp_path / "filler").write_bytes(b"x" * 64 * 1024)
        yield tmp_path
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_under_the_state_directory(lab: QemuLab, full_disk: pathlib.Path) -> None:
    with pytest.raises(HypervisorError, match=r"No space left|disk is full"):
        lab.start(state_dir=str(full_disk / "state"), wait_for="running")
    assert lab.processes() == []
    assert [path for path in full_disk.rglob("*") if path.is_file()] == [full_disk / "filler"]
    lab.ids.clear()


def test_a_sandbox_that_runs_survives_a_wish_that_cannot_be(lab: QemuLab) -> None:
    lab.start(wait_for="running")
    before = lab.facts()
    for wish in ({"memory_mb": 1 << 26}, {"vcpus": 300}, {"machine_type": "pc"}, {"kernel_path": "/nowhere"}):
        with pytest.raises(HypervisorError):
            lab.run(**wish)
    after = lab.facts()
    assert (after["pid"], after["state"], after["memory_mb"]) == (before["pid"], "started", before["memory_mb"])


def an_overlay(path: pathlib.Path, *words: str) -> str:
    """A qcow2 image that names a file of the host."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, str(path), "8M"], check=True)
    return str(path)


@pytest.mark.parametrize("kind", ["backing file", "data file"])
def test_an_image_that_names_another_file_is_refused_everywhere(
    lab: QemuLab, tmp_path: pathlib.Path, kind: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret of the host".ljust(8 << 20, b"\0"))
    words = (
        ("-b", str(secret), "-F", "raw") if kind == "backing file" else ("-o", f"data_file={tmp_path / 'elsewhere'}")
    )
    bad = an_overlay(tmp_path / "bad.qcow2", *words)
    boot = {
        "kernel_path": str(lab.assets.kernel),
        "initrd_path": str(lab.assets.initrd),
        "accelerator": "tcg",
        "state": "started",
    }
    disk = {"id": "data", "type": "block", "file": bad, "format": "qcow2"}
    refused = rf"must not name other files.*it names the {kind} {tmp_path}"
    for check_mode in (True, False):
        with pytest.raises(HypervisorError, match=refused) as error:
            lab.run(check_mode=check_mode, **boot, devices=[disk])
        assert error.value.option == "devices"
        with pytest.raises(HypervisorError, match=refused) as error:
            lab.run(check_mode=check_mode, **{**boot, "initrd_path": "", "image_path": bad, "image_format": "qcow2"})
        assert error.value.option == "image_path"
    assert list(lab.root.iterdir()) == [] and lab.processes() == []

    lab.start(kernel_params=["kata.shell=ttyS0"], wait_for=None)
    good = {**disk, "file": an_overlay(tmp_path / "good.qcow2"), "driver": "virtio-blk"}
    lab.run(devices=[good])
    for check_mode in (True, False):
        with pytest.raises(HypervisorError, match=refused):
            lab.run(check_mode=check_mode, devices=[good, {**disk, "id": "more"}])
        with pytest.raises(HypervisorError, match=refused):
            lab.device(check_mode=check_mode, **{**disk, "id": "more"})
    # One that was exchanged while the sandbox was off.
    lab.run(state="stopped", stop_timeout=0)
    os.replace(bad, good["file"])
    for check_mode in (True, False):
        with pytest.raises(HypervisorError, match=refused):
            lab.run(check_mode=check_mode, state="started")
    assert lab.facts()["state"] == "stopped" and lab.processes() == []


@pytest.mark.parametrize("kind", ["file", "link", "somebody's socket"])
def test_a_socket_takes_nothing_of_the_hosts(lab: QemuLab, tmp_path: pathlib.Path, kind: str) -> None:
    place = lab.root / "place.sock"
    theirs = socket.socket(socket.AF_UNIX)
    if kind == "file":
        place.write_text("data of the host")
    elif kind == "link":
        place.symlink_to(lab.root / "elsewhere")
    else:
        theirs.bind(str(place))
    before = os.lstat(place)
    boot = {
        "kernel_path": str(lab.assets.kernel),
        "initrd_path": str(lab.assets.initrd),
        "accelerator": "tcg",
        "state": "started",
    }
    port = {"id": "port0", "type": "serial", "name": "org.example.port", "path": str(place)}
    refused = "the path of a socket must be free, or a socket of this sandbox"
    for check_mode in (True, False):
        with pytest.raises(HypervisorError, match=refused):
            lab.run(check_mode=check_mode, **boot, devices=[port])
    assert lab.processes() == []
    lab.run(**boot)
    for check_mode in (True, False):
        with pytest.raises(HypervisorError, match=refused):
            lab.run(check_mode=check_mode, devices=[port])
    lab.run(state="absent", stop_timeout=0)
    assert (before.st_ino, before.st_size) == (os.lstat(place).st_ino, os.lstat(place).st_size)
    theirs.close()


def test_a_sandboxes_own_socket_is_replaced_and_no_other_ones(lab: QemuLab) -> None:
    place = lab.root / "place.sock"
    port = {"id": "port0", "type": "serial", "name": "org.example.port", "path": str(place)}
    boot = {
        "kernel_path": str(lab.assets.kernel),
        "initrd_path": str(lab.assets.initrd),
        "accelerator": "tcg",
        "state": "started",
    }
    made = lab.run(**boot, devices=[port])["sandbox"]
    with pytest.raises(HypervisorError, match="the path of a socket must be free"):
        lab.run(devices=[port, {**port, "id": "port1"}])
    with pytest.raises(HypervisorError, match="the path of a socket must be free"):
        lab.run(devices=[port, {**port, "id": "port1", "path": str(lab.run_path("qmp.sock"))}])
    os.kill(made["pid"], 9)
    lab.run(state="started")
    assert stat.S_ISSOCK(place.stat().st_mode)
    os.kill(lab.facts()["pid"], 9)
    place.unlink()
    place.write_text("put there since")
    lab.run(state="absent")
    assert place.read_text() == "put there since"
