# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each architecture has its names, its console and its features, and every part of the code has it.

Sources: elf(5) and linux/elf-em.h (numbers), Debian's list of multiarch tuples and of ports, QEMU's documentation of its system emulators (machine
types and serial ports), Documentation/virt/kvm/api.rst (KVM_CLOCK_REALTIME is x86's), Firecracker's docs/api_requests/actions.md (SendCtrlAltDel is x86_64's).
"""

from __future__ import annotations

import os
import pathlib
import struct
import types

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils import architectures
from ansible_collections.kata.hypervisor.plugins.module_utils.architectures import (
    ARCHITECTURES,
    architecture_named,
    architecture_of_elf,
    host_architecture,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.tiny_programs import ASSEMBLERS
from ansible_collections.kata.hypervisor.plugins.module_utils.host.proc import parse_running_on_vmm
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.vmm import Vmm
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import machines
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.facts import usual_qemus
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.kernel_params import (
    PARAMETERS,
    parameters_of,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.asset_store import _check_architecture

FACTS = [
    ("x86_64", "amd64", "x86_64-linux-gnu", 62, "ttyS0", "q35", "qemu-system-x86_64"),
    ("aarch64", "arm64", "aarch64-linux-gnu", 183, "ttyAMA0", "virt", "qemu-system-aarch64"),
    ("ppc64le", "ppc64el", "powerpc64le-linux-gnu", 21, "hvc0", "pseries", "qemu-system-ppc64le"),
    ("s390x", "s390x", "s390x-linux-gnu", 22, "ttysclp0", "s390-ccw-virtio", "qemu-system-s390x"),
]


def host_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """This host has another architecture."""
    monkeypatch.setattr(os, "uname", lambda: types.SimpleNamespace(machine=name))


@pytest.mark.parametrize(("name", "debian", "triplet", "elf", "console", "machine", "program"), FACTS)
def test_the_facts_of_an_architecture(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    debian: str,
    triplet: str,
    elf: int,
    console: str,
    machine: str,
    program: str,
) -> None:
    host_is(monkeypatch, name)
    own = host_architecture()
    assert (own.name, own.debian, own.triplet, own.elf, own.console) == (name, debian, triplet, elf, console)
    assert architecture_of_elf(elf) == name
    assert machines.machine_named("").name == machine
    assert machines.host_architecture().binaries[0] == f"/usr/bin/{program}"
    assert [word.value for word in parameters_of(machines.host_architecture()) if word.key == "console"] == [console]


def test_every_part_has_the_same_architectures() -> None:
    assert set(ARCHITECTURES) == set(machines.ARCHITECTURES) == set(PARAMETERS) == set(ASSEMBLERS)
    assert {row[0] for row in FACTS} == set(ARCHITECTURES)


def test_only_x86_shows_a_virtual_machine_in_its_flags_and_has_a_keyboard_and_a_clock() -> None:
    for name, architecture in ARCHITECTURES.items():
        own = (architecture.cpu_flags, architecture.keyboard, architecture.guest_clock)
        assert own == (name == "x86_64",) * 3, name
    assert parse_running_on_vmm("flags\t: fpu hypervisor\n", "x86_64")
    assert not parse_running_on_vmm("Features\t: fp asimd\n", "aarch64")


@pytest.mark.parametrize("name", ["aarch64", "ppc64le", "s390x"])
def test_firecracker_presses_no_keys_where_its_guests_have_no_keyboard(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    host_is(monkeypatch, name)
    # It answers before it looks at the VMM, which does not exist.
    assert Vmm.ask_to_shut_down(None, None, 1.0) is False  # type: ignore[arg-type]


@pytest.mark.parametrize(("host", "foreign"), [("x86_64", 183), ("aarch64", 62), ("s390x", 21)])
def test_a_program_of_another_architecture_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, host: str, foreign: int
) -> None:
    host_is(monkeypatch, host)
    program = tmp_path / "vmm"
    for number in (ARCHITECTURES[host].elf, foreign):
        order = ">" if number == 22 else "<"
        head = b"\x7fELF\x02" + (b"\x02" if order == ">" else b"\x01")
        program.write_bytes(head.ljust(16, b"\0") + struct.pack(f"{order}HH", 2, number) + b"\0" * 44)
        if number == foreign:
            with pytest.raises(AssetError, match=f"{host}, and is for {architecture_of_elf(foreign)}"):
                _check_architecture(str(program))
        else:
            _check_architecture(str(program))


def test_an_unknown_architecture_has_names_and_no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    host_is(monkeypatch, "riscv64")
    own = host_architecture()
    assert (own.debian, own.triplet, own.console) == ("riscv64", "riscv64-linux-gnu", "")
    assert not own.keyboard and not own.guest_clock
    assert usual_qemus() == []
    assert architecture_of_elf(243) == "machine 243"
    assert architecture_named("x86_64") is architectures.ARCHITECTURES["x86_64"]
