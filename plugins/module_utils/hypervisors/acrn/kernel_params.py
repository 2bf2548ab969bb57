# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest kernel's parameters on ACRN. Pure."""

from __future__ import annotations

from ...options.config import HypervisorConfig
from ...options.kernel_params import Param, mode_params, parse_kernel_params

DEFAULTS = (
    "tsc=reliable no_timer_check nohpet console=tty0 console=ttyS0 console=hvc0 log_buf_len=16M consoleblank=0 iommu=off"
    " i915.avail_planes_per_pipe=0x070F00 i915.enable_hangcheck=0 i915.nuclear_pageflip=1 i915.enable_guc_loading=0"
    " i915.enable_guc_submission=0 i915.enable_guc=0"
)
#: One parameter here, three words in the guest.
ROOT = Param("root", "/dev/vda1 rw rootwait")
#: systemd talks to the kernel's log.
DEBUG_IMAGE = [Param("systemd.log_target", "kmsg"), Param("printk.devkmsg", "on")]


def default_params(config: HypervisorConfig) -> list[Param]:
    """What every guest gets, before the driver's own and the user's."""
    image = bool(config.image_path)
    params = parse_kernel_params(DEFAULTS) + ([ROOT] if image else []) + mode_params(config.debug, image)
    return params + (DEBUG_IMAGE if image and config.debug else [])


def kernel_params(config: HypervisorConfig) -> list[Param]:
    """All parameters; the user's come last and win."""
    own = [Param("panic", "1"), Param("maxcpus", str(config.num_vcpus))]
    return default_params(config) + own + config.kernel_params
