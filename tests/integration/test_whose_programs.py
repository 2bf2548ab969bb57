# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose programs a task of root's runs (the kind of CVE-2020-27151): none that another user could exchange, whatever option or file names it."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
from typing import Any, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn import start
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices import virtiofsd
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import declared_options
from tests.support.acrn_lab import AcrnLab
from tests.support.firecracker_lab import FirecrackerLab
from tests.support.lab import SandboxLab, nothing_ran
from tests.support.stand_ins import DOUBLES

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run what another user put there")

#: Options that name programs, and the hypervisors that run them.
PROGRAMS = [
    ("hypervisor_path", "qemu"),
    ("virtio_fs_daemon", "qemu"),
    ("hypervisor_path", "firecracker"),
    ("jailer_path", "firecracker"),
    ("hypervisor_path", "acrn"),
    ("hypervisor_ctl_path", "acrn"),
]
#: All other paths: files and directories that a VM uses, and no programs.
FILES = {
    "kernel_path",
    "image_path",
    "initrd_path",
    "initramfs_path",
    "firmware_path",
    "firmware_vars_path",
    "entropy_source",
    "file_mem_backend",
    "cpu_config_path",
    "chroot_base_dir",
    "network_namespace",
}
#: What they are called in a configuration file of Kata's.
KEYS = {"hypervisor_path": "path", "hypervisor_ctl_path": "ctlpath"}


@pytest.fixture(params=PROGRAMS, ids=[f"{option} of {hypervisor}" for option, hypervisor in PROGRAMS])
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SandboxLab, str]]:
    option, hypervisor = request.param
    if hypervisor == "firecracker":
        lab = FirecrackerLab(jailed=True)
    elif hypervisor == "acrn":
        monkeypatch.setattr(start, "HSM_DEVICES", ("/dev/null",))
        lab = AcrnLab()
    else:
        lab = SandboxLab("qemu", memory_mb=128, accelerator="tcg")
        share = {"id": "share", "type": "fs", "tag": "work", "path": str(lab.root)}
        lab.options |= {
            "kernel_path": lab.file("kernel"),
            "initrd_path": lab.file("initrd"),
            "shared_fs": "virtio-fs",
            "devices": [share],
        }
        lab.options |= {
            "hypervisor_path": "/usr/bin/qemu-system-x86_64",
            "virtio_fs_daemon": next(filter(os.path.exists, virtiofsd.USUAL_PLACES), ""),
        }
    try:
        yield lab, option
    finally:
        lab.destroy()


def exchangeable(lab: SandboxLab, how: str) -> tuple[str, pathlib.Path]:
    """A program that another user could exchange, and what lets that user."""
    program = lab.root / "opt" / "program"
    program.parent.mkdir(mode=0o755)
    shutil.copy(DOUBLES / "firecracker", program)
    program.chmod(0o755)
    fault = {
        "the file's owner": program,
        "the file's mode": program,
        "the directory": program.parent,
        "the link": lab.root / "link",
    }[how]
    if how == "the link":
        fault.symlink_to(program)
        os.lchown(fault, 1234, 1234)
        return str(fault), fault
    if how == "the file's owner":
        os.chown(program, 1234, 1234)
    else:
        fault.chmod(0o777)
    return str(program), fault


def options_of(lab: SandboxLab, option: str, program: str, by_file: bool) -> dict[str, Any]:
    """The options of a task that names a program, itself or in a configuration file."""
    options = {"state": "started", **lab.options}
    if not by_file:
        return {**options, option: program}
    options.pop(option, None)
    path = lab.root / "configuration.toml"
    others = {
        name: KEYS.get(name, name)
        for name in ("hypervisor_path", "hypervisor_ctl_path", "jailer_path")
        if name in options
    }
    for name in ("kernel_path", "image_path", "initrd_path"):
        if name in options:
            others[name] = name.removesuffix("_path")
    lines = [f'{key} = "{options[name]}"' for name, key in others.items()]
    lines += [f'{KEYS.get(option, option)} = "{program}"', "default_memory = 128", 'block_device_driver = "virtio-blk"']
    path.write_text("\n".join([f"[hypervisor.{lab.hypervisor}]", *lines, ""]))
    path.chmod(0o644)
    return {**options, "config_file": str(path)}


@pytest.mark.parametrize("how", ["the file's owner", "the file's mode", "the directory", "the link"])
@pytest.mark.parametrize("by_file", [False, True], ids=["", "by a configuration file"])
def test_a_program_that_another_user_could_exchange_is_not_run(
    case: tuple[SandboxLab, str], how: str, by_file: bool
) -> None:
    if by_file and sys.version_info < (3, 11):
        pytest.skip("this Python cannot read TOML")
    lab, option = case
    program, fault = exchangeable(lab, how)
    for run in (lab.check, lab.run):
        with pytest.raises(HostError, match="no other user may write to it") as caught:
            run(**options_of(lab, option, program, by_file))
        assert caught.value.option == option and str(fault) in caught.value.message
    nothing_ran(lab)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python cannot read TOML")
@pytest.mark.parametrize("how", ["owner", "mode", "directory"])
def test_a_configuration_file_that_another_user_could_write_is_not_read(how: str) -> None:
    lab = SandboxLab("qemu")
    try:
        path = lab.root / "etc" / "configuration.toml"
        path.parent.mkdir()
        path.write_text(f'[hypervisor.qemu]\nkernel = "{lab.file("kernel")}"\nimage = "{lab.file("image")}"\n')
        if how == "owner":
            os.chown(path, 1234, 1234)
        else:
            (path if how == "mode" else path.parent).chmod(0o777)
        with pytest.raises(HostError, match="no other user may write to it") as caught:
            lab.spec(state="started", config_file=str(path))
        assert caught.value.option == "config_file"
        lab.spec(state="absent", config_file=str(path))
    finally:
        lab.destroy()


def test_each_option_that_is_a_path_is_one_or_the_other() -> None:
    """A new option that names a program belongs to PROGRAMS."""
    paths = {name for name, declared in declared_options().items() if declared.type == "path"}
    assert paths == FILES | {option for option, _hypervisor in PROGRAMS}
