# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel parameters that each architecture's guests get, before anybody's own. Pure."""

from __future__ import annotations

from ...architectures import architecture_named
from ...options.kernel_params import Param, parse_kernel_params
from .machines import Architecture

#: `memhp_default_state=online_movable` makes hot-added memory usable at once and removable again.
EVERYWHERE = "memhp_default_state=online_movable"
#: What a kernel does after a panic. It restarts where that ends its VM. Elsewhere it stands still: nothing would tell its restart from another one, and
#: it could go on for ever.
PANIC_RESTARTS, PANIC_HALTS = "panic=1", "panic=0"
QUICK = "rcupdate.rcu_expedited=1 cryptomgr.notests net.ifnames=0"

#: By architecture, in the order of the command line. `iommu=off` spares an x86_64 guest the 64 MiB of bounce buffers that the kernel keeps where
#: memory can appear above 4 GiB.
PARAMETERS: dict[str, str] = {
    "x86_64": "tsc=reliable no_timer_check rcupdate.rcu_expedited=1 i8042.direct=1 i8042.dumbkbd=1 i8042.nopnp=1 i8042.noaux=1"
    " reboot=k {console} iommu=off cryptomgr.notests net.ifnames=0",
    "aarch64": f"{{console}} iommu.passthrough=0 {QUICK}",
    "ppc64le": "rcupdate.rcu_expedited=1 {console} cryptomgr.notests net.ifnames=0",
    "s390x": f"{{console}} {QUICK}",
}


def parameters_of(architecture: Architecture, reboots: bool = False) -> list[Param]:
    """What every guest of an architecture is told.

    :param reboots: a restart of the guest does not end its VM
    """
    console = f"console={architecture_named(architecture.name).console}"
    own = PARAMETERS[architecture.name].format(console=console)
    return parse_kernel_params(f"{own} {EVERYWHERE} {PANIC_HALTS if reboots else PANIC_RESTARTS}")


def kernel_parameters(
    architecture: Architecture, accelerator: str, host_khz: int, debug: bool, reboots: bool = False
) -> list[Param]:
    """The parameters every guest of ours gets, before the user's own.

    `tsc_early_khz` spares a guest under TCG the calibration in which some machine types hang.

    :param host_khz: the host's TSC frequency in kHz, 0 when unknown or when it is none
    :param reboots: a restart of the guest does not end its VM
    """
    words = parameters_of(architecture, reboots)
    if accelerator == "tcg" and host_khz and architecture.name == "x86_64":
        words.append(Param("tsc_early_khz", str(host_khz)))
    words.append(Param("debug") if debug else Param("quiet"))
    return words
