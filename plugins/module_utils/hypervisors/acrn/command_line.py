# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a configuration and devices to acrn-dm's command line, in the words of its version. Pure."""

from __future__ import annotations

import dataclasses
import re
from typing import Iterable, Protocol

from ...errors import ConfigError
from ...options.config import HypervisorConfig
from ...options.kernel_params import kernel_params_string
from ...untrusted.answers import AnswerError, ListOf, Text, brief, checked
from .kernel_params import kernel_params

#: Placeholder drives of every VM, each of which a disk can take the place of while the VM runs.
PLACEHOLDERS = 8
NO_DISK = "nodisk"
#: The slot that ACRN keeps for its graphics (GVT-g).
RESERVED_SLOT = 2
#: Slots of the one bus of a VM.
SLOTS = 32
#: Bytes of a VM's name without the zero that ends it (ACRN, MAX_VM_NAME_LEN).
MAX_NAME = 15
#: What would be read as the end of a value.
SEPARATORS = re.compile(r"[,\s]")


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The words of a range of versions of acrn-dm.

    :param by_uuid: a VM is known by a UUID (-U), and its vCPUs are counted (-c); else by its name, and its CPUs are named
    """

    name: str
    by_uuid: bool
    tap: str
    console_suffix: str


UUID = Dialect("up to 2.5", by_uuid=True, tap="", console_suffix="")
NAME = Dialect("from 2.7", by_uuid=False, tap="tap=", console_suffix=":server")


def dialect_for(version: tuple[int, ...]) -> Dialect:
    """The dialect of a version of acrn-dm. UUIDs went after 2.5."""
    return UUID if tuple(version) < (2, 6) else NAME


@dataclasses.dataclass
class CommandLine:
    """Words of acrn-dm, and where its disks are.

    :param words: without the program
    :param slots: slot of each disk, by its index; the image is 0, placeholders are 1 to 8, and a later disk takes an index over
    :param placeholders: slots of the placeholder drives
    """

    words: list[str] = dataclasses.field(default_factory=list)
    slots: dict[int, int] = dataclasses.field(default_factory=dict)
    placeholders: list[int] = dataclasses.field(default_factory=list)
    next_slot: int = 0

    def take_slot(self) -> int:
        """The next free slot.

        :raises ConfigError: the bus is full
        """
        slot = self.next_slot
        if slot >= SLOTS:
            raise ConfigError(f"ACRN gives a VM {SLOTS} slots for devices", option="devices")
        self.next_slot = slot + 1 + (slot + 1 == RESERVED_SLOT)
        return slot

    def add(self, text: str, function: str = "") -> int:
        """Add a device in the next slot."""
        slot = self.take_slot()
        self.words += ["-s", f"{slot}{function},{text}"]
        return slot


class Addable(Protocol):
    """A device as a command line needs it, see `devices/base.py`."""

    def add_to(self, line: CommandLine, dialect: Dialect) -> None:
        """Add it to a command line."""


def vm_name(config: HypervisorConfig, sandbox: str) -> str:
    """What ACRN calls the VM."""
    return config.vm_name or f"sandbox-{sandbox}"


def command_line(
    config: HypervisorConfig, name: str, console: str, devices: Iterable[Addable] = (), dialect: Dialect = UUID
) -> CommandLine:
    """The words of acrn-dm.

    :param name: of the VM
    :param console: path of the console's socket
    :raises Unsupported: ACRN has no such device
    :raises ConfigError: a path has a comma or a blank in it, or there are too many devices
    """
    line = CommandLine()
    if dialect.by_uuid:
        line.words += ["-A", "-m", f"{config.memory_size}M", "-c", str(config.num_vcpus)]
        line.words += ["-U", config.vm_uuid] if config.vm_uuid else []
    else:
        line.words += ["-m", f"{config.memory_size}M"]
        if config.cpu_affinity:
            line.words += ["--cpu_affinity", ",".join(param.key for param in config.cpu_affinity)]
    line.add("hostbridge", ":0")
    line.add("lpc", ":0")
    line.words.append("-lcom1,stdio")
    line.add(f"virtio-console,@socket:console0={plain(console)}{dialect.console_suffix}")
    line.slots[0] = line.add(f"virtio-blk,{plain(config.image_path)}")
    for index in range(1, PLACEHOLDERS + 1):
        line.slots[index] = line.add(f"virtio-blk,{NO_DISK}")
        line.placeholders.append(line.slots[index])
    for device in devices:
        device.add_to(line, dialect)
    line.words += ["-k", config.kernel_path, "-B", kernel_params_string(kernel_params(config)), name]
    return line


def plain(text: str) -> str:
    """A value that is read as one.

    :raises ConfigError: it has a comma or a blank in it
    """
    if SEPARATORS.search(text):
        raise ConfigError("acrn-dm takes no commas and no blanks in a value", option="devices", wanted=text)
    return text


def rescan(name: str, slot: int, path: str) -> list[str]:
    """The words of acrnctl that put a disk into the place of a placeholder."""
    return ["blkrescan", name, f"{slot},{plain(path)}"]


#: What acrnctl says when a VM does not take a disk (acrn_vm_ops.c, blkrescan_vm).
RESCAN_REFUSED = "Unable to rescan"


def parse_version(text: str) -> tuple[int, ...]:
    """The version in acrn-dm's words (`DM version is: 2.7-...`, and from 3.2 on `DM: 3.2-...`); empty when there is none."""
    found = re.search(r"\bDM(?: version is)?:[ \t]*v?([0-9]{1,4})\.([0-9]{1,4})(?![0-9])", text)
    return (int(found[1]), int(found[2])) if found else ()


#: What `acrnctl list` prints: one VM a line, its name and its state, between blanks. Whoever makes VMs chooses their names.
LINES = ListOf(Text(most=512), most=1024)
#: What a word for a state looks like (started, stopped, untracked...).
STATE = re.compile(r"[a-z][a-z_-]{1,31}")


def vm_states(text: str) -> dict[str, str]:
    """The states of VMs by name, out of what `acrnctl list` prints. Other lines ("There are no VMs") are ignored.

    :raises AnswerError: acrnctl could not have printed that
    """
    source = "acrnctl's list of VMs"
    if any(not character.isprintable() and character not in "\n\t" for character in text):
        raise AnswerError(f"{source} cannot be used: it must be printable text", answer=brief(text))
    lines = [line.split() for line in checked(LINES, text.split("\n"), source)]
    return {words[0]: words[1] for words in lines if len(words) == 2 and STATE.fullmatch(words[1])}
