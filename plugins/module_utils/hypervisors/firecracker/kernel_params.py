# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest kernel's parameters on Firecracker. Pure."""

from __future__ import annotations

from ...options.config import HypervisorConfig
from ...options.kernel_params import Param, mode_params
from . import requests

ROOT = (
    Param("root", "/dev/vda1"),
    Param("rootflags", "data=ordered,errors=remount-ro ro"),
    Param("rootfstype", "ext4"),
)
DEFAULTS = (
    Param("pci", "off"),
    Param("reboot", "k"),
    Param("panic", "1"),
    Param("net.ifnames", "0"),
    Param("random.trust_cpu", "on"),
)


def kernel_params(config: HypervisorConfig, partitioned: bool = True) -> list[Param]:
    """All parameters; the user's come last and win.

    :param partitioned: the image has partitions, as Kata's have
    """
    image = bool(config.image_path)
    root = list(ROOT) if partitioned else [Param("root", "/dev/vda"), Param("ro")]
    if config.root_disk_path:
        root = [Param("root", "/dev/vda1" if partitioned else "/dev/vda"), Param("rw")]
    own = [param for param in DEFAULTS if not (param.key == "pci" and config.enable_pci)]
    if requests.region_size(config):
        # What is plugged in can be given back later (Firecracker, docs/memory-hotplug.md).
        own.append(Param("memhp_default_state", "online_movable"))
    words = [Param("console", "ttyS0"), *mode_params(config.debug, image)]
    return [*(root if image else []), *own, *words, *config.kernel_params]
