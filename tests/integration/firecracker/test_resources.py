# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks that give a Firecracker, jailed and not, a root disk, volumes and a seed."""

from __future__ import annotations

import hashlib
import os
import pathlib
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, StateError, Unsupported
from tests.support.firecracker_lab import FirecrackerLab
from tests.support.lab import nothing_ran
from tests.support.stand_ins import needs_guest

DATA = {"name": "data", "size_mb": 8, "filesystem": "none"}
USER_DATA = "#!/bin/sh\necho hello\n"


def drives(lab: FirecrackerLab) -> dict[str, dict[str, Any]]:
    """The drives that Firecracker has, by id."""
    machine = lab.driver().vmm
    return {drive["drive_id"]: drive for drive in machine.config(machine.api())["drives"]}


def seen_path(lab: FirecrackerLab, drive: dict[str, Any]) -> pathlib.Path:
    """A drive's file as Firecracker sees it: its root directory is the jail."""
    root = os.readlink(f"/proc/{lab.facts()['pid']}/root")
    return pathlib.Path(root.rstrip("/") + drive["path_on_host"])


@needs_guest
def test_a_disk_volumes_and_a_seed(lab: FirecrackerLab) -> None:
    image = pathlib.Path(str(lab.options["image_path"]))
    before = hashlib.sha256(image.read_bytes()).hexdigest()
    result = lab.start(root_disk_mb=16, volumes=[DATA], user_data=USER_DATA)
    assert result["actions"] == [
        "create",
        "create volume data, 8 MiB, none",
        f"create the root disk, 16 MiB, from {image}",
        "create the seed",
        "start",
    ]
    found = drives(lab)
    assert (found["rootfs"]["is_read_only"], found["rootfs"]["is_root_device"]) == (False, False)
    files = {name: seen_path(lab, drive) for name, drive in found.items()}
    assert files["rootfs"].samefile(result["sandbox"]["root_disk"]["path"])
    (volume,) = result["sandbox"]["volumes"]
    assert any(path.samefile(volume["path"]) for path in files.values())
    seeds = [drive for name, drive in found.items() if files[name].read_bytes()[32808:32814] == b"cidata"]
    assert [drive["is_read_only"] for drive in seeds] == [True]
    assert "hello" not in str((result, lab.facts()))
    for state in ("saved", "started", "stopped", "started"):
        lab.run(state=state)
    assert not lab.run(root_disk_mb=16, volumes=[DATA], user_data=USER_DATA)["changed"]
    assert hashlib.sha256(image.read_bytes()).hexdigest() == before
    removed = lab.run(state="absent")
    assert removed["actions"] == ["stop", "remove with its root disk"]
    assert not pathlib.Path(result["sandbox"]["state_dir"]).exists()
    assert pathlib.Path(volume["path"]).exists(), "a volume is kept"


@needs_guest
def test_disks_grow_while_the_vm_runs(lab: FirecrackerLab) -> None:
    lab.start(root_disk_mb=16, volumes=[DATA])
    larger = {**DATA, "size_mb": 12}
    check = lab.check(root_disk_mb=20, volumes=[larger])
    result = lab.run(root_disk_mb=20, volumes=[larger])
    assert check["actions"] == result["actions"]
    assert "grow the root disk 16 -> 20 MiB" in result["actions"]
    assert "grow volume data 8 -> 12 MiB" in result["actions"]
    sizes = sorted(seen_path(lab, drive).stat().st_size >> 20 for drive in drives(lab).values())
    assert sizes == [12, 20]
    assert not lab.run(root_disk_mb=20, volumes=[larger])["changed"]
    with pytest.raises(ConfigError, match="never shrunk"):
        lab.run(root_disk_mb=16)


def test_a_volume_belongs_to_one_sandbox_that_writes(lab: FirecrackerLab) -> None:
    lab.run(volumes=[DATA], state="present", **lab.options)
    (volume,) = lab.facts()["volumes"]
    for options in (
        {"volumes": [DATA]},
        {"volumes": [{**DATA, "read_only": True}]},
    ):
        with pytest.raises(StateError, match="sandbox web has volume data and writes to it"):
            lab.run("db", state="present", **options, **lab.options)
    link = str(lab.root / "link")
    os.symlink(volume["path"], link)
    for path in (volume["path"], link):
        disk = {"id": "disk", "type": "block", "file": path}
        with pytest.raises(ConfigError, match="device disk must not be the disk of volume data"):
            lab.run("db", state="present", devices=[disk], **lab.options)
    nothing_ran(lab, "db")


def test_a_network_of_the_vmm_is_refused(lab: FirecrackerLab) -> None:
    with pytest.raises(Unsupported):
        lab.start(network="user", ports=["8080:80"])
    nothing_ran(lab)


def test_a_changed_image_is_noticed_for_an_overlay_only(lab: FirecrackerLab) -> None:
    """Firecracker's root disk is a copy: it does not need its image any more."""
    lab.run(root_disk_mb=16, state="present", **lab.options)
    os.unlink(str(lab.options["image_path"]))
    assert lab.check(state="started")["actions"] == ["start"]
