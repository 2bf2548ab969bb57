# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a VM can be cloned from a template: compares its configuration with the template's. Pure."""

from __future__ import annotations

import dataclasses

from ..options.config import DIGESTS, HypervisorConfig

#: Fields that may differ: sizes, since a clone can grow; options of booting, since a clone does not boot; and how the host supervises the VMM.
NOT_COMPARED = frozenset(
    {
        "num_vcpus",
        "memory_size",
        "boot_to_be_template",
        "boot_from_template",
        "memory_path",
        "devices_state_path",
        "supervisor",
        "unit_properties",
        "autostart",
        "on_reboot",
        "jailer_uid",
        "jailer_gid",
        "chroot_base_dir",
        "network_namespace",
        "jailer_cgroups",
        "jailer_limits",
        "allow_vulnerable_vmm",
        "console_rate_limit",
        "vmm_metrics",
        "vmm_log_level",
        "mmds_size_limit",
        "jailer",
        "track_dirty_pages",
        "use_vsock",
        *DIGESTS,
    }
)


def config_differences(base: HypervisorConfig, wanted: HypervisorConfig) -> list[str]:
    """The fields that differ and must be the same in a template and its clone."""
    return [
        field.name
        for field in dataclasses.fields(HypervisorConfig)
        if field.name not in NOT_COMPARED and getattr(base, field.name) != getattr(wanted, field.name)
    ]
