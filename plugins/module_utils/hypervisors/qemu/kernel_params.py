# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel parameters that each architecture's guests get, before anybody's own. Pure.

The original and we say much the same; the words that only one of us says are marked.
"""

from __future__ import annotations

from ...options.kernel_params import Param, parse_kernel_params
from .machines import Architecture

BOTH, ORIGINAL, TODAY = "both", "original", "today"

#: The original's guests talk on a virtio console.
VIRTIO_CONSOLE = (ORIGINAL, "console=hvc0 console=hvc1")
#: `memhp_default_state=online_movable` makes hot-added memory usable at once and removable again.
OURS = (TODAY, "memhp_default_state=online_movable panic=1")

#: In the order of the command line. `iommu=off` spares an x86_64 guest the 64 MiB of bounce buffers that the kernel keeps where memory
#: can appear above 4 GiB.
WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "x86_64": (
        (BOTH, "tsc=reliable no_timer_check rcupdate.rcu_expedited=1"),
        (BOTH, "i8042.direct=1 i8042.dumbkbd=1 i8042.nopnp=1 i8042.noaux=1"),
        (ORIGINAL, "noreplace-smp"),
        (BOTH, "reboot=k"),
        VIRTIO_CONSOLE,
        (TODAY, "console=ttyS0"),
        (BOTH, "iommu=off cryptomgr.notests net.ifnames=0"),
        (ORIGINAL, "pci=lastbus=0"),
        OURS,
    ),
    "aarch64": (
        VIRTIO_CONSOLE,
        (TODAY, "console=ttyAMA0"),
        (BOTH, "iommu.passthrough=0"),
        (TODAY, "rcupdate.rcu_expedited=1 cryptomgr.notests net.ifnames=0"),
        OURS,
    ),
    "ppc64le": (
        (ORIGINAL, "tsc=reliable no_timer_check"),
        (BOTH, "rcupdate.rcu_expedited=1"),
        (ORIGINAL, "noreplace-smp reboot=k"),
        (BOTH, "console=hvc0"),
        (ORIGINAL, "console=hvc1"),
        (BOTH, "cryptomgr.notests net.ifnames=0"),
        OURS,
    ),
    "s390x": (
        (BOTH, "console=ttysclp0"),
        (TODAY, "rcupdate.rcu_expedited=1 cryptomgr.notests net.ifnames=0"),
        OURS,
    ),
}


def words_of(architecture: Architecture, speaker: str) -> list[Param]:
    """What one of the two (`original` or `today`) says to every guest of an architecture."""
    return [
        word for who, text in WORDS[architecture.name] if who in (BOTH, speaker) for word in parse_kernel_params(text)
    ]


def kernel_parameters(architecture: Architecture, accelerator: str, host_khz: int, debug: bool) -> list[Param]:
    """The parameters every guest of ours gets, before the user's own.

    `tsc_early_khz` spares a guest under TCG the calibration in which some machine types hang.

    :param host_khz: the host's TSC frequency in kHz, 0 when unknown or when it is none
    """
    words = words_of(architecture, TODAY)
    if accelerator == "tcg" and host_khz and architecture.name == "x86_64":
        words.append(Param("tsc_early_khz", str(host_khz)))
    words.append(Param("debug") if debug else Param("quiet"))
    return words
