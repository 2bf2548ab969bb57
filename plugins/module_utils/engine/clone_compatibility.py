# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a VM that stands ready, or a template, may serve a new sandbox: what the VM factory of Kata 1.x requires of configurations. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..errors import ConfigError, Unsupported
from ..options.config import HypervisorConfig

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
    }
)


@dataclasses.dataclass
class VmConfig:
    """All that a VM without a sandbox is made from.

    :param agent_config: compared as it is
    :param proxy_config: never compared
    """

    hypervisor_type: str
    hypervisor_config: HypervisorConfig
    agent_type: str = ""
    agent_config: Any = None
    proxy_type: str = ""
    proxy_config: Any = None

    def valid(self) -> None:
        """Check it, and fill in the hypervisor's defaults once it has passed.

        :raises ConfigError: something is missing or contradictory
        """
        if not self.agent_type:
            raise ConfigError("a VM of a factory needs an agent type")
        if not self.proxy_type:
            raise ConfigError("a VM of a factory needs a proxy type")
        self.hypervisor_config.valid()

    def differences(self, other: VmConfig) -> list[str]:
        """The names of what keeps one from standing in for the other, in a fixed order.

        Zero is not its default here: fill in the defaults of both first, or of none.
        """
        names = [
            name
            for name in ("hypervisor_type", "agent_type", "agent_config", "proxy_type")
            if getattr(self, name) != getattr(other, name)
        ]
        return names + config_differences(self.hypervisor_config, other.hypervisor_config)

    def check_serves(self, wanted: VmConfig) -> None:
        """Return when a VM made from this can serve `wanted`.

        :raises ConfigError: it cannot; names what differs
        """
        names = self.differences(wanted)
        if names:
            raise ConfigError(f"the VM that stands ready differs in {', '.join(names)}", option=names[0])


def config_differences(base: HypervisorConfig, wanted: HypervisorConfig) -> list[str]:
    """The fields in which two configurations differ and a clone could not be brought over."""
    return [
        field.name
        for field in dataclasses.fields(HypervisorConfig)
        if field.name not in NOT_COMPARED and getattr(base, field.name) != getattr(wanted, field.name)
    ]


def check_factory(config: VmConfig, cache: int, fetch_only: bool) -> None:
    """Return when a factory can be made.

    :param cache: VMs to keep ready
    :param fetch_only: take what another process made, make nothing
    :raises ConfigError: the VM's configuration is wrong
    :raises Unsupported: VMs that stand ready in another process cannot be fetched
    """
    config.valid()
    if fetch_only and cache > 0:
        raise Unsupported("a cache of VMs lives in the process that made it and cannot be fetched")
