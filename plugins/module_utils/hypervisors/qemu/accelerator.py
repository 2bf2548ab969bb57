# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which accelerator a guest really runs with.

/dev/kvm may open, every ioctl succeed and QEMU report KVM as enabled where no guest will ever boot (some nested and paravirtual
hosts). So `auto` believes in KVM only after guest code has run under it: first a 64 KiB ROM that enters protected mode, then, where a
kernel is at hand, that kernel with an init of a few hundred bytes that prints a marker. The verdict is remembered with its reason.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import struct
import tempfile

from ...host.boot_cache import cache_get, cache_put, fingerprint
from ...host.programs import output_of
from .kernel_params import parameters_of
from .machines import MACHINES, X86_64, Architecture, host_architecture

KVM_GET_API_VERSION = 0xAE00
KVM_API_VERSION = 12
#: Exit status of a QEMU whose guest wrote 0x10 to isa-debug-exit: (value << 1) | 1.
ROM_EXIT = (0x10 << 1) | 1
ROM_SECONDS = 2.0
KERNEL_SECONDS = 10.0
#: MiB of memory that a kernel gets for it; more where the machine's memory comes in larger blocks.
KERNEL_MEMORY_MB = 256
#: Bytes of a guest's console that are looked through.
MOST_CONSOLE = 4 << 20
MARKER = b"kata-hypervisor: guest code runs"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The accelerator to use and why.

    :param accelerator: kvm or tcg
    :param reason: a sentence for people
    :param evidence: what was tried: device, rom, kernel
    """

    accelerator: str
    reason: str
    evidence: str = ""

    def as_dict(self) -> dict[str, str]:
        """The verdict as a JSON-able value."""
        return dataclasses.asdict(self)


def choose(qemu: str, cache_dir: str, kernel: str = "", keep: bool = True) -> Verdict:
    """The accelerator for a QEMU binary on this host, from memory where the same question was answered since the last boot.

    :param qemu: path of the binary
    :param cache_dir: directory for the remembered verdict; one that a reboot empties
    :param kernel: a guest kernel for the decisive test; without one the ROM decides
    :param keep: write the verdict down (a caller that must not touch the host says no)
    """
    question = _question(qemu, kernel)
    path = os.path.join(cache_dir, "accelerator.json")
    with contextlib.suppress(TypeError):
        return Verdict(**cache_get(path, question))
    verdict = probe(qemu, kernel)
    if keep:
        cache_put(path, {question: verdict.as_dict()})
    return verdict


def probe(qemu: str, kernel: str = "", device: str = "/dev/kvm") -> Verdict:
    """Find out anew, running guest code; takes up to 2 s where KVM only pretends and about 0.1 s where there is none."""
    architecture = host_architecture()
    problem = _device_problem(device)
    if problem:
        return Verdict("tcg", problem, "device")
    has_rom = architecture is X86_64
    outcome = run_rom(qemu, "kvm") if has_rom else "ran"
    if outcome != "ran":
        if run_rom(qemu, "tcg") != "ran":
            return Verdict(
                "tcg", f"a test ROM {outcome} with KVM, and does not run with TCG either: check {qemu}", "rom"
            )
        return Verdict("tcg", f"{device} opens, but a test ROM {outcome} under KVM while it runs under TCG", "rom")
    if kernel:
        outcome = run_kernel(qemu, "kvm", kernel, architecture=architecture)
        if outcome != "ran":
            return Verdict("tcg", f"{device} opens, but {kernel} {outcome} under KVM", "kernel")
        return Verdict("kvm", f"{kernel} reached user space under KVM", "kernel")
    return Verdict(
        "kvm", "a test ROM ran under KVM" if has_rom else f"{device} answers", "rom" if has_rom else "device"
    )


def _device_problem(device: str) -> str:
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return f"{device} does not exist"
    except OSError as error:
        return f"{device} cannot be opened: {error.strerror}"
    try:
        version = fcntl.ioctl(descriptor, KVM_GET_API_VERSION)
    except OSError as error:
        return f"{device} does not answer: {error.strerror}"
    finally:
        os.close(descriptor)
    if version != KVM_API_VERSION:
        return f"{device} speaks version {version} of KVM's interface, not {KVM_API_VERSION}"
    return ""


def test_rom() -> bytes:
    """64 KiB of x86 that enters protected mode, counts, and reports through isa-debug-exit.

    Real mode alone proves nothing: it runs on hosts where protected mode hangs.
    """
    code = bytearray()
    code += b"\xfa"  # cli
    code += b"\x2e\x66\x0f\x01\x16" + struct.pack("<H", 0x80)  # lgdt cs:[0x80]
    code += b"\x0f\x20\xc0\x66\x83\xc8\x01\x0f\x22\xc0"  # cr0 |= protection enable
    code += b"\x66\xea" + struct.pack("<IH", 0xF0040, 8)  # far jump to 32-bit code at 0x40
    code = code.ljust(0x40, b"\x90")
    code += b"\xb9" + struct.pack("<I", 0x10000) + b"\xe2\xfe"  # count down
    code += b"\xb0\x10\xe6\xf4\xf4\xeb\xfd"  # out 0xf4, 0x10; hlt for ever
    code = code.ljust(0x80, b"\x90")
    code += struct.pack("<HI", 23, 0xF0090)
    code = code.ljust(0x90, b"\0")
    code += struct.pack("<QQQ", 0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF)  # null, flat code, flat data
    rom = bytearray(b"\xf4" * 65536)
    rom[: len(code)] = code
    rom[0xFFF0:0xFFF5] = b"\xea\x00\x00\x00\xf0"  # reset vector: far jump to f000:0000
    return bytes(rom)


def marker_init(architecture: Architecture) -> bytes:
    """A static program that prints the marker and reboots: the whole user space of the decisive test."""
    from ...guest.tiny_programs import Call, program

    message = MARKER + b"\n"
    write, reboot = ("write", (1, message, len(message))), ("reboot", (0xFEE1DEAD, 0x28121969, 0x01234567))
    return program(architecture.name, [Call(*write), Call(*reboot)])


def run_rom(qemu: str, accelerator: str, seconds: float = ROM_SECONDS) -> str:
    """Run the test ROM: `ran`, or what happened instead."""
    with tempfile.NamedTemporaryFile(prefix="kata-probe-", suffix=".bin") as rom:
        rom.write(test_rom())
        rom.flush()
        arguments = ["-machine", f"pc,accel={accelerator}", "-m", "2", "-bios", rom.name]
        arguments += ["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
        code, output = _run(qemu, arguments, seconds)
    if code is None:
        return f"did not finish within {seconds:g} s"
    return (
        "ran"
        if code == ROM_EXIT
        else f"ended with exit code {code} {output.decode('utf-8', 'replace').strip()[-200:]}".rstrip()
    )


def run_kernel(
    qemu: str, accelerator: str, kernel: str, seconds: float = KERNEL_SECONDS, architecture: Architecture = X86_64
) -> str:
    """Boot a kernel with the marker's init: `ran`, or what happened instead."""
    machine = MACHINES[architecture.default_machine]
    options = "".join(f",{name}={value}" for name, value in machine.options.items())
    memory = max(KERNEL_MEMORY_MB, 2 * machine.boot_memory_block_mb)
    console = next(word.value for word in parameters_of(architecture) if word.key == "console")
    from ...guest.cpio import Archive

    archive = Archive()
    archive.add_file("/init", marker_init(architecture), 0o755)
    archive.add_character_device("/dev/console", 5, 1)
    with tempfile.NamedTemporaryFile(prefix="kata-probe-", suffix=".cpio") as initrd:
        initrd.write(archive.to_bytes())
        initrd.flush()
        arguments = [
            "-machine",
            f"{machine.name}{options},accel={accelerator}",
            "-m",
            str(memory),
            "-kernel",
            kernel,
            "-initrd",
            initrd.name,
        ]
        arguments += [
            "-append",
            f"console={console} quiet panic=-1",
            "-serial",
            "stdio",
            "-cpu",
            "host" if accelerator == "kvm" else architecture.cpu,
        ]
        code, output = _run(qemu, arguments, seconds)
    if MARKER in output:
        return "ran"
    return (
        f"did not reach user space within {seconds:g} s"
        if code is None
        else f"did not reach user space (exit code {code})"
    )


def _run(qemu: str, arguments: list[str], seconds: float) -> tuple[int | None, bytes]:
    argv = [qemu, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot", *arguments]
    found = output_of(argv, seconds, MOST_CONSOLE)
    return found.code, found.output or found.problem.encode()


def _question(qemu: str, kernel: str) -> str:
    """What a verdict depends on: this boot, the device, the binary and the kernel as they are now."""
    parts = [fingerprint(path) for path in ("/dev/kvm", qemu, kernel)]
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        parts.append(stream.read().strip())
    return "|".join(parts)
