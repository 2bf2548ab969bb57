# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sandbox starts from the files whose digests its task names, and from no others."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError
from tests.support.qemu_lab import QemuLab


def digest_of(path: str | pathlib.Path) -> str:
    """The digest of a file as a task names it."""
    return f"sha512:{hashlib.sha512(pathlib.Path(path).read_bytes()).hexdigest()}"


def own_kernel(lab: QemuLab) -> pathlib.Path:
    """A copy of the lab's kernel that a test may change."""
    path: pathlib.Path = lab.root / "own-kernel"
    shutil.copyfile(lab.assets.kernel, path)
    return path


def refused(lab: QemuLab, **options: Any) -> AssetError:
    """The error of a task, which check mode raises in the same words."""
    with pytest.raises(AssetError) as before:
        lab.check(**options)
    with pytest.raises(AssetError) as caught:
        lab.run(**options)
    assert str(before.value) == str(caught.value)
    return caught.value


def test_a_vm_runs_on_while_its_kernel_is_another_one_and_is_not_restarted_with_it(lab: QemuLab) -> None:
    kernel = own_kernel(lab)
    lab.start(wait_for="running", kernel_path=str(kernel), kernel_digest=digest_of(kernel))
    right, pid = digest_of(kernel), lab.facts()["pid"]
    with open(kernel, "ab") as stream:
        stream.write(b"\0")
    error = refused(lab, state="restarted")
    assert error.option == "kernel_digest" and right in str(error) and digest_of(kernel) in str(error)
    assert lab.facts()["pid"] == pid
    lab.run(kernel_digest=digest_of(kernel))
    assert lab.facts()["pid"] == pid
    assert lab.run(state="restarted")["sandbox"]["pid"] != pid


def test_a_saved_vm_is_not_restored_by_another_qemu(lab: QemuLab) -> None:
    program = os.path.realpath(shutil.which("qemu-system-x86_64") or "")
    lab.start(wait_for="running", hypervisor_digest=digest_of(program))
    lab.run(state="saved")
    lab.run(hypervisor_digest=digest_of(lab.assets.kernel))
    error = refused(lab, state="started")
    assert error.option == "hypervisor_digest" and digest_of(program) in str(error)
    assert lab.facts()["state"] == "saved"
    lab.run(hypervisor_digest=digest_of(program))
    assert lab.run(state="started")["sandbox"]["state"] == "started"
