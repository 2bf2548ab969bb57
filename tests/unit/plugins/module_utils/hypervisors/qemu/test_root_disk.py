# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What QEMU is given of a root disk: the disk to write to, and the image below it for reading, both named by us."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, StateError, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.host.units import MIB
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.common.vmm_process import file_uses
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import disk_resize
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.arguments import MODERN
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.command_line import VmPlan, command_line
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import machine_named
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig


def config(disk_format: str, **options: Any) -> HypervisorConfig:
    return HypervisorConfig(
        kernel_path="/k",
        image_path="/image",
        root_disk_path="/state/root",
        root_disk_format=disk_format,
        num_vcpus=1,
        memory_size=128,
        **options,
    )


def argv(made: HypervisorConfig) -> list[str]:
    plan = VmPlan(
        "web", "uuid", made, machine_named("q35"), "tcg", "/run/pid", "/run/log", [], image_fd=30, root_disk_fd=31
    )
    return command_line(plan, MODERN)


def values(words: list[str], option: str) -> list[str]:
    return [value for name, value in zip(words, words[1:]) if name == f"-{option}"]


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_an_overlay_is_on_an_image_that_is_only_read(image_format: str) -> None:
    words = argv(config("qcow2", image_format=image_format))
    base, disk = map(json.loads, values(words, "blockdev"))
    assert (base["driver"], base["node-name"], base["read-only"]) == (image_format, "image-base", True)
    assert base["file"] == {"driver": "file", "filename": "/dev/fdset/30", "read-only": True}
    # An image's own header is not followed either.
    assert ("backing" in base) == (image_format == "qcow2") and base.get("backing") is None
    assert (disk["driver"], disk["node-name"], disk["backing"]) == ("qcow2", "image", "image-base")
    assert disk["file"]["filename"] == "/dev/fdset/31"
    assert "read-only" not in disk and "read-only" not in disk["file"]
    assert len(values(words, "add-fd")) == 2
    assert [device for device in map(json.loads, values(words, "device")) if device.get("drive")] == [
        {"driver": "virtio-blk-pci", "id": "image0", "drive": "image"}
    ]


def test_a_copy_is_attached_alone() -> None:
    [disk] = map(json.loads, values(argv(config("raw")), "blockdev"))
    assert (disk["driver"], disk["node-name"]) == ("raw", "image")
    assert "backing" not in disk


def test_the_root_file_system_is_mounted_for_writing() -> None:
    [line] = values(argv(config("qcow2")), "append")
    assert "rw" in line.split() and "ro" not in line.split()


def test_what_a_vm_has_open_is_the_disk_and_the_image_below_it() -> None:
    assert [(use.path, use.writes) for use in file_uses(config("qcow2"), [])] == [
        ("/state/root", True),
        ("/image", False),
    ]
    assert [(use.path, use.writes) for use in file_uses(config("raw"), [])] == [("/state/root", True)]


# --- growth ------------------------------------------------------------------------------------------------------------


class Qmp:
    """Answers of a QEMU with a root disk of 10 MiB and a device d.

    :param nodes: what it says of its nodes, beside the root disk's
    """

    def __init__(self, *nodes: dict[str, Any]) -> None:
        root = {"node-name": "image", "drv": "qcow2", "file": "/dev/fdset/31", "image": {"virtual-size": 10 * MIB}}
        self.nodes = [root, {"node-name": "#block1", "drv": "file", "file": "/dev/fdset/31"}, *nodes]
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.grows = True

    def execute(self, command: str, arguments: dict[str, Any]) -> Any:
        if command == "qom-list":
            return [{"name": "dev-d", "type": "child"}]
        if command == "qom-get":
            return "image" if arguments["path"].endswith("/image0") else "node-d"
        if command == "query-named-block-nodes":
            return self.nodes
        self.asked.append((command, arguments))
        if self.grows:
            self.nodes[0]["image"]["virtual-size"] = arguments["size"]
        return {}


def test_the_node_that_the_guest_has_is_grown_and_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    qmp = Qmp()
    grown = disk_resize.resize(qmp, "root", 20)  # type: ignore[arg-type]
    assert (grown.old_mb, grown.new_mb) == (10, 20)
    assert qmp.asked == [("block_resize", {"node-name": "image", "size": 20 * MIB})]
    assert disk_resize.resize(qmp, "root", 20).new_mb == 20  # type: ignore[arg-type]
    assert len(qmp.asked) == 1
    with pytest.raises(ConfigError, match="Set at least 20"):
        disk_resize.resize(qmp, "root", 19)  # type: ignore[arg-type]
    qmp.grows = False
    with pytest.raises(Exception, match="has 20971520 bytes after it was grown"):
        disk_resize.resize(qmp, "root", 30)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([{"node-name": "node-d", "drv": "raw", "ro": True, "image": {"virtual-size": MIB}}], "read-only"),
        (
            [
                {"node-name": "node-d", "drv": "raw", "file": "/dev/fdset/9", "image": {"virtual-size": MIB}},
                {"node-name": "#block9", "drv": "host_device", "file": "/dev/fdset/9"},
            ],
            "block device of the host",
        ),
    ],
)
def test_what_cannot_grow_is_refused(nodes: list[dict[str, Any]], why: str) -> None:
    qmp = Qmp(*nodes)
    for act in (disk_resize.check, disk_resize.resize):
        with pytest.raises(Unsupported, match=why):
            act(qmp, "d", 20)  # type: ignore[operator]
    assert qmp.asked == []


def test_a_disk_that_is_not_there_is_refused() -> None:
    with pytest.raises(StateError, match="does not have this disk"):
        disk_resize.check(Qmp(), "e", 20)  # type: ignore[arg-type]
