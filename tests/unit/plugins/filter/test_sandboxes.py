# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of sandboxes are merged by id, divided into steps and predicted; ids are text, whatever YAML makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kata.hypervisor.plugins.filter.merge_sandboxes import merge_sandboxes
from ansible_collections.kata.hypervisor.plugins.filter.sandbox_steps import sandbox_steps
from ansible_collections.kata.hypervisor.plugins.filter.uncheckable_sandboxes import uncheckable_sandboxes


def test_a_later_list_adds_to_an_earlier_one() -> None:
    lists = [[{"id": "web", "vcpus": 1, "memory_mb": 256}], {"id": "db"}, [{"id": "web", "vcpus": 2}]]
    assert merge_sandboxes(lists) == [{"id": "web", "vcpus": 2, "memory_mb": 256}, {"id": "db"}]


def test_a_number_is_the_id_that_it_reads_as() -> None:
    assert merge_sandboxes([[{"id": 1, "vcpus": 1}], [{"id": "1", "memory_mb": 64}], [{"id": 1.5}]]) == [
        {"id": "1", "vcpus": 1, "memory_mb": 64},
        {"id": "1.5"},
    ]


@pytest.mark.parametrize("entry", ["web", {"vcpus": 1}, {"id": None}, {"id": True}, {"id": ["web"]}, None, 7])
def test_what_is_no_sandbox_is_refused(entry: Any) -> None:
    with pytest.raises(AnsibleFilterError):
        merge_sandboxes([[entry]])


def test_steps_are_in_order_and_have_the_defaults() -> None:
    sandboxes = [
        {"id": "web", "order": "10", "memory_mb": 512},
        {"id": "db", "order": 2},
        {"id": "fc", "hypervisor": "firecracker", "order": 2},
        {"id": "old", "state": "absent"},
    ]
    steps = sandbox_steps(
        sandboxes, defaults={"memory_mb": 256}, found={"kernel_path": "/k", "memory_mb": 1}, qemu_user="kata-vmm"
    )
    assert steps == [
        {"order": 0, "sandboxes": [{"id": "old", "state": "absent"}]},
        {
            "order": 2,
            "sandboxes": [
                {"id": "db", "kernel_path": "/k", "memory_mb": 256, "vmm_user": "kata-vmm"},
                {"id": "fc", "hypervisor": "firecracker", "kernel_path": "/k", "memory_mb": 256},
            ],
        },
        {"order": 10, "sandboxes": [{"id": "web", "kernel_path": "/k", "memory_mb": 512, "vmm_user": "kata-vmm"}]},
    ]
    assert sandbox_steps(sandboxes[:1], defaults={"memory_mb": 1}, state="absent")[0]["sandboxes"] == [
        {"id": "web", "memory_mb": 512, "state": "absent"}
    ]
    assert sandbox_steps([]) == []


def test_an_order_must_be_a_number() -> None:
    with pytest.raises(AnsibleFilterError, match="order of sandbox web must be an integer"):
        sandbox_steps([{"id": "web", "order": "first"}])


def test_an_empty_path_of_a_role_is_ignored() -> None:
    found = {"kernel_path": "/k", "image_path": "", "initrd_path": None}
    assert sandbox_steps([{"id": "web"}], found=found)[0]["sandboxes"] == [{"id": "web", "kernel_path": "/k"}]


@pytest.mark.parametrize(
    ("own", "used"),
    [
        ({}, {"kernel_path", "initrd_path"}),
        ({"image": "guest"}, {"kernel_path"}),
        ({"image_path": "/disk"}, {"kernel_path"}),
        ({"initrd": "/own"}, {"kernel_path"}),
        ({"image": "debian-12", "boot": "firmware"}, set()),
        ({"image": "debian-12", "boot": "kernel"}, {"kernel_path"}),
    ],
)
@pytest.mark.parametrize("by_default", [False, True])
def test_what_a_sandbox_boots_takes_the_place_of_what_roles_installed(own, used, by_default):
    found = {"kernel_path": "/k", "initrd_path": "/r"}
    sandbox, defaults = ({"id": "web"}, own) if by_default else ({"id": "web", **own}, {})
    (made,) = sandbox_steps([sandbox], defaults=defaults, found=found)[0]["sandboxes"]
    assert made == {"id": "web", **own, **{name: found[name] for name in used if name not in own}}


def test_an_initrd_takes_the_place_of_an_image_and_its_first_stage():
    found = {"kernel_path": "/k", "image_path": "/i", "initramfs_path": "/s"}
    assert sandbox_steps([{"id": "web", "initrd_path": "/r"}], found=found)[0]["sandboxes"] == [
        {"id": "web", "kernel_path": "/k", "initrd_path": "/r"}
    ]
    assert sandbox_steps([{"id": "web", "image": "other"}], found=found)[0]["sandboxes"] == [
        {"id": "web", "kernel_path": "/k", "initramfs_path": "/s", "image": "other"}
    ]


SANDBOXES = [{"id": "here"}, {"id": "new", "vcpus": 2}, {"id": "old", "state": "absent"}]


@pytest.mark.parametrize(
    ("missing", "uncheckable"),
    [([], []), (["VMM"], ["new"]), (["kernel"], ["here", "new"]), (["VMM", "image"], ["here", "new"])],
)
def test_what_check_mode_cannot_check(missing: list[str], uncheckable: list[str]) -> None:
    assert uncheckable_sandboxes(SANDBOXES, missing, [{"id": "here", "state": "started"}]) == uncheckable
