# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a VM can begin from a template: the fields in which its configuration must be the template's. Pure."""

from __future__ import annotations

import dataclasses

from ..options.config import DIGESTS, HypervisorConfig

#: What may differ: a clone is resized upwards, how it boots is the factory's own business, and who looks after it on the host its own.
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
        *DIGESTS,
    }
)


def config_differences(base: HypervisorConfig, wanted: HypervisorConfig) -> list[str]:
    """The fields in which two configurations differ and a clone could not be brought over."""
    return [
        field.name
        for field in dataclasses.fields(HypervisorConfig)
        if field.name not in NOT_COMPARED and getattr(base, field.name) != getattr(wanted, field.name)
    ]
