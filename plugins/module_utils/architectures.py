# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between the architectures of hosts and guests, whatever the VMM. What QEMU has for each is in `hypervisors/qemu/machines.py`.

To add an architecture, add it here, its machine types there, and the machine code of its tiny programs in `guest/tiny_programs.py`.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class Architecture(NamedTuple):
    """An architecture.

    :param name: as uname(2) names it
    :param debian: as Debian and Ubuntu name it in packages and images
    :param triplet: the directory of libraries in Debian and Ubuntu
    :param elf: its number in ELF headers (e_machine)
    :param console: the serial console of a guest under QEMU, as its kernel names it
    :param console_option: the option of the kernel that drives this console
    :param cpu_flags: its /proc/cpuinfo has flags that tell a virtual machine from a real one
    :param keyboard: Firecracker gives its guests the keyboard that sends Ctrl-Alt-Del
    :param guest_clock: Firecracker can set the clock of a restored guest (KVM_CLOCK_REALTIME)
    """

    name: str
    debian: str
    triplet: str
    elf: int
    console: str
    console_option: str
    cpu_flags: bool = False
    keyboard: bool = False
    guest_clock: bool = False


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            "x86_64",
            "amd64",
            "x86_64-linux-gnu",
            62,
            "ttyS0",
            "CONFIG_SERIAL_8250_CONSOLE",
            cpu_flags=True,
            keyboard=True,
            guest_clock=True,
        ),
        Architecture("aarch64", "arm64", "aarch64-linux-gnu", 183, "ttyAMA0", "CONFIG_SERIAL_AMBA_PL011_CONSOLE"),
        Architecture("ppc64le", "ppc64el", "powerpc64le-linux-gnu", 21, "hvc0", "CONFIG_HVC_CONSOLE"),
        Architecture("s390x", "s390x", "s390x-linux-gnu", 22, "ttysclp0", "CONFIG_SCLP_CONSOLE"),
    )
}


def architecture_named(name: str) -> Architecture:
    """The architecture of that name; of an unknown one, only what follows from its name, and no feature."""
    return ARCHITECTURES.get(name) or Architecture(name, name, f"{name}-linux-gnu", 0, "", "", cpu_flags=True)


def host_architecture() -> Architecture:
    """The architecture of this host."""
    return architecture_named(os.uname().machine)


def architecture_of_elf(number: int) -> str:
    """The name of the architecture with this number in ELF headers."""
    names = [architecture.name for architecture in ARCHITECTURES.values() if architecture.elf == number]
    return names[0] if names else f"machine {number}"
