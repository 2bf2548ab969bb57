# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests of tasks, `SandboxSpec` and `TemplateSpec`, and the conversion between options by name and a `HypervisorConfig`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..records.layout import RUN_ROOT, STATE_ROOT, SandboxLayout, TemplateLayout
from .config import HypervisorConfig
from .declarations import Option, options_of
from .kernel_params import deserialize_params, serialize_params
from .resource_options import RESOURCE_OPTIONS, ResourceOptions

STATES = ("absent", "present", "started", "paused", "stopped", "saved", "restarted")

#: The values of the option `disruption`, mildest first.
DISRUPTIONS = ("none", "restart", "recreate")

DEFAULT_HYPERVISOR = "qemu"


@dataclasses.dataclass
class SandboxSpec:
    """What one task requests of one sandbox. None means that the option is omitted.

    :param options: options that were given, by name (see `declared_options`); `kernel_params` is a list of words
    :param devices: the complete list of devices that the sandbox should have (see `device_options.py`)
    :param device_changes: by id, single devices that it should have, or should not have (None); the others stay, and a sandbox that is not
        there is not made
    :param disruption: one of DISRUPTIONS
    :param wait_for: see `waiting.py`
    :param start_timeout: seconds for the VMM to answer
    :param stop_timeout: seconds the guest gets to shut down by itself; 0 does not ask it
    :param save_timeout: seconds to save or restore
    :param lock_timeout: seconds to wait for another task that works on the same sandbox
    """

    id: str
    state: str | None = None
    hypervisor: str | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    devices: list[dict[str, Any]] | None = None
    device_changes: dict[str, dict[str, Any] | None] | None = None
    disruption: str = "none"
    wait_for: dict[str, Any] | None = None
    start_timeout: float = 60
    stop_timeout: float = 10
    save_timeout: float = 300
    lock_timeout: float = 60
    state_dir: str = STATE_ROOT
    run_dir: str = RUN_ROOT

    def layout(self) -> SandboxLayout:
        """Where the sandbox keeps its files."""
        return SandboxLayout(self.id, self.state_dir, self.run_dir)


@functools.cache
def declared_options() -> Mapping[str, Option]:
    """The options of a sandbox, by name: those of its VM's configuration, and those of what the host gives it."""
    return {declared.name: declared for one in (HypervisorConfig, ResourceOptions) for declared in options_of(one)}


def creation_defaults(hypervisor: str) -> dict[str, Any]:
    """The defaults of options for a new sandbox; the driver fills in more."""
    defaults = {name: declared.default_for(hypervisor) for name, declared in declared_options().items()}
    return {name: value for name, value in defaults.items() if value is not None}


def make_config(options: Mapping[str, Any]) -> HypervisorConfig:
    """The configuration made of options by name. Options of resources are not part of it.

    :raises ConfigError: an option does not exist
    """
    config = HypervisorConfig()
    declared = declared_options()
    for name, value in options.items():
        if name in RESOURCE_OPTIONS:
            continue
        if name not in declared:
            raise ConfigError("the option does not exist", option=name, wanted=value)
        is_list = declared[name].type == "list"
        setattr(config, declared[name].attribute, deserialize_params(value) if is_list else value)
    return config


def options_from(config: HypervisorConfig) -> dict[str, Any]:
    """The options by name that are set in a configuration (zero and empty mean "not set")."""
    options = {}
    for declared in options_of(HypervisorConfig):
        value = getattr(config, declared.attribute)
        if value:
            options[declared.name] = serialize_params(value) if declared.type == "list" else value
    return options


def zero_of(name: str) -> Any:
    """The value of an option that was never set."""
    defaults = ResourceOptions() if name in RESOURCE_OPTIONS else HypervisorConfig()
    value = getattr(defaults, declared_options()[name].attribute)
    return [] if isinstance(value, list) else value


@dataclasses.dataclass
class TemplateSpec(SandboxSpec):
    """What one task requests of one template. Its state is `saved` or `absent`.

    :param memory_dir: directory below which its memory is kept, None for the template's own
    :param force: remove it even if clones of it run
    """

    memory_dir: str | None = None
    force: bool = False

    def layout(self) -> TemplateLayout:
        """Where the template keeps its files."""
        return TemplateLayout(self.id, self.state_dir, self.run_dir)
