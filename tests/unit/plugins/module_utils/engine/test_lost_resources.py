# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes of the mock driver whose disks, volumes or records are lost, and disks that grow while their VM is saved."""

from __future__ import annotations

import json
import pathlib
import shutil
import socket
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.resources import SandboxResources
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.sandbox import Sandbox
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    ConfigError,
    StateError,
    StoreError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import make_config
from tests.support.mock_lab import MockLab
from tests.unit.plugins.module_utils.engine.test_laws import outcome

MIB = 1 << 20


def volume(name: str, size_mb: int = 2, **more: Any) -> dict[str, Any]:
    return {"name": name, "size_mb": size_mb, "filesystem": "none", **more}


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> MockLab:
    (tmp_path / "image").write_bytes(bytes(MIB))
    return MockLab(tmp_path / "lab")


def boot(lab: MockLab) -> dict[str, Any]:
    return {"kernel_path": "/k", "image_path": str(lab.root.parent / "image")}


def volume_size(lab: MockLab, name: str) -> int:
    return (lab.root / "state" / "volumes" / name / "disk.raw").stat().st_size // MIB


def test_a_damaged_volume_concerns_its_own_sandbox_only(lab: MockLab) -> None:
    lab.run(**boot(lab), volumes=[volume("mine", keep=False)])
    lab.run("other", **boot(lab), volumes=[volume("broken")])
    (lab.root / "state" / "volumes" / "broken" / "disk.raw").unlink()
    assert lab.run(**boot(lab), volumes=[volume("mine", keep=False)])["actions"] == []
    assert lab.run(state="absent")["actions"] == ["stop", "remove with volume mine"]
    assert lab.facts("other")["state"] == "started"
    with pytest.raises(Exception, match="volume broken cannot be read"):
        lab.run("other", volumes=[volume("broken", 3)])
    stopped = lab.run("other", state="stopped")
    assert stopped["actions"] == ["stop"]
    assert "volume broken cannot be read" in stopped["warnings"][0]
    assert lab.run("other", state="absent")["changed"]


@pytest.mark.parametrize("state", ["stopped", "absent"])
def test_a_sandbox_without_its_root_disk_can_be_ended(lab: MockLab, state: str) -> None:
    lab.run(**boot(lab), root_disk_mb=2)
    (lab.root / "state" / "sandboxes" / "web" / "root.raw").unlink()
    assert lab.run(state=state)["changed"]
    assert not lab.run(state=state)["changed"]
    if state == "stopped":
        with pytest.raises(AssetError, match="the root disk must be where it was created"):
            lab.run(state="started")


def test_a_volume_that_a_running_vm_has_open_is_not_created_again(lab: MockLab) -> None:
    request = {**boot(lab), "volumes": [volume("data")]}
    lab.run(**request)
    shutil.rmtree(lab.root / "state" / "volumes" / "data")
    for run in (lab.check, lab.run):
        with pytest.raises(AssetError, match="volume data must be where it was created"):
            run(**request)
    assert not (lab.root / "state" / "volumes" / "data").exists()
    lab.run(state="stopped")
    assert lab.run(**request, state="started")["changed"]


@pytest.mark.parametrize("lost", [False, True], ids=["damaged", "lost"])
def test_removal_without_a_usable_record_removes_volumes_that_do_not_stay(lab: MockLab, lost: bool) -> None:
    lab.run(**boot(lab), root_disk_mb=2, volumes=[volume("scratch", keep=False), volume("data")])
    record = lab.root / "state" / "sandboxes" / "web" / "record.json"
    if lost:
        record.unlink()
    else:
        record.write_text(record.read_text()[:100])
    lab.run(state="absent")
    assert [path.name for path in (lab.root / "state" / "volumes").iterdir() if path.is_dir()] == ["data"]


@pytest.mark.parametrize("state", ["started", "paused", "stopped", "restarted"])
def test_disks_grow_when_a_saved_vm_is_started_or_given_up(lab: MockLab, state: str) -> None:
    lab.run(**boot(lab), root_disk_mb=2, volumes=[volume("data")])
    lab.run(state="saved")
    request = {"root_disk_mb": 3, "volumes": [volume("data", 4, keep=False)], "state": state, "disruption": "restart"}
    assert outcome(lab.check, request) == outcome(lab.run, request)
    assert volume_size(lab, "data") == 4
    assert lab.facts()["root_disk"]["size_mb"] == 3
    assert lab.run(**{**request, "state": None})["actions"] == []


@pytest.mark.parametrize("name", ["data", "another"])
def test_volumes_of_a_saved_vm_do_not_grow_in_check_mode_either(lab: MockLab, name: str) -> None:
    lab.run("other", **boot(lab), volumes=[volume("another")])
    lab.run("other", state="absent")
    lab.run(**boot(lab), volumes=[volume("data")])
    lab.run(state="saved")
    state = "saved" if name == "data" else "started"
    listed = [volume("data", 3)] if name == "data" else [volume("data"), volume("another", 3)]
    for run in (lab.check, lab.run):
        with pytest.raises(StateError, match=f"was saved with volume {name}"):
            run(volumes=listed, state=state)
    assert volume_size(lab, name) == 2


def test_a_change_of_keep_does_not_grow_the_file_of_a_running_vm(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.kata.hypervisor.plugins.module_utils.resources import volumes

    lab.run(**boot(lab), volumes=[volume("data")])
    monkeypatch.setattr(volumes, "grow_volume", lambda *_: pytest.fail("the driver must grow it"))
    assert "grow volume data 2 -> 3 MiB" in lab.run(volumes=[volume("data", 3, keep=False)])["actions"]


def test_a_record_with_the_longest_seed_can_be_read(lab: MockLab) -> None:
    """JSON writes each of these bytes with six."""
    longest = "#!/bin/sh\n" + "\x01" * (MIB - 10)
    request = {**boot(lab), "user_data": longest, "vendor_data": longest, "network_config": "\x01" * MIB}
    lab.run(**request)
    assert lab.run(**request)["actions"] == []
    assert lab.run(state="absent")["changed"]
    with pytest.raises(ConfigError, match="must be at most 1048576 bytes long"):
        lab.check(**{**request, "user_data": longest + "x"})


@pytest.mark.parametrize("state", ["stopped", "saved"])
def test_a_port_that_another_program_took_meanwhile_is_refused_before_the_start(lab: MockLab, state: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = f"127.0.0.1:{server.getsockname()[1]}:80"
    lab.run(**boot(lab), network="user", ports=[port])
    with socket.create_server(("127.0.0.1", int(port.split(":")[1]))):
        # It stands for the VM, which listens on its port as long as it runs.
        assert lab.run(ports=[port])["actions"] == []
        lab.run(state=state)
        for run in (lab.check, lab.run):
            with pytest.raises(ConfigError, match="of the host must be free"):
                run(state="started")
    assert lab.run(state="started")["changed"]


def test_a_vm_of_another_hypervisor_does_not_get_the_old_root_disk(lab: MockLab) -> None:
    lab.run(**boot(lab), root_disk_mb=2)
    layout = lab.spec().layout()
    recorded = Sandbox(lab.spec(), lab.factory).store.load().resources  # type: ignore[union-attr]
    for hypervisor, new, path in (
        ("qemu", True, ""),
        ("qemu", False, recorded["root_disk"]["path"]),
        ("mock", True, recorded["root_disk"]["path"]),
    ):
        config = make_config(boot(lab))
        SandboxResources(layout, hypervisor).configure(config, recorded, new)
        assert config.root_disk_path == path


def test_a_disk_whose_record_is_lost_is_never_replaced_and_can_be_removed(tmp_path: pathlib.Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    lab = MockLab(tmp_path / "lab")
    options = {"kernel_path": "/k", "image_path": str(image), "root_disk_mb": 2, "hostname": "web"}
    lab.run(state="stopped", **options)
    state = lab.root / "state/sandboxes/web"
    (state / "root.raw").write_bytes(b"the guest's data".ljust(2 << 20, b"\0"))
    (state / "record.json").unlink()
    shutil.rmtree(lab.root / "run", ignore_errors=True)
    for run in (lab.check, lab.run):
        with pytest.raises(StateError, match="its record is lost"):
            run(**options)
    assert (state / "root.raw").read_bytes().startswith(b"the guest's data")
    assert lab.check(state="absent")["changed"]
    assert lab.run(state="absent")["changed"]
    assert lab.remains() == []
    assert not lab.run(state="absent")["changed"]


#: What a record could name to make a VMM write to another file.
FOREIGN_DISK = {
    "path": "/etc/passwd",
    "format": "raw",
    "base": "/image",
    "base_format": "raw",
    "base_identity": "inode 1",
    "size_mb": 1,
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resources", {"network": []}),
        ("resources", {"root_disk": "/etc/passwd"}),
        ("resources", {"root_disk": {"path": "/etc/passwd"}}),
        ("resources", {"root_disk": {**FOREIGN_DISK}}),
        ("resources", {"image": 7}),
        ("resources", []),
        ("options", {"volumes": [1]}),
        ("options", {"volumes": [{"name": "../x"}]}),
        ("options", {"ports": [80]}),
        ("options", {"network": "../x"}),
        ("options", {"root_disk_mb": "many"}),
        ("options", {"user_data": []}),
    ],
)
def test_a_record_with_resources_of_another_kind_is_refused_and_can_be_removed(
    tmp_path: pathlib.Path, field: str, value: Any
) -> None:
    lab = MockLab(tmp_path / "lab")
    lab.run(kernel_path="/k", initrd_path="/i", hostname="web")
    path = lab.root / "state/sandboxes/web/record.json"
    record = json.loads(path.read_text())
    record[field] = {**record[field], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(record))
    for run in (lab.check, lab.run):
        with pytest.raises(StoreError, match="its record"):
            run(vcpus=2)
    assert lab.run(state="absent")["changed"]
    assert lab.remains() == []
