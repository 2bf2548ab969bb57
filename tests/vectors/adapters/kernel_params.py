# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel command lines of three drivers."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer
from adapters.fields import Fields
from adapters.go_config import config_from_go
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn import kernel_params as acrn
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import (
    kernel_params as firecracker,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.arch import (
    AMD64,
    kernel_parameters,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import (
    kernel_params_string,
    serialize_params,
)


def run(given: dict[str, Any]) -> Answer:
    driver = Fields(given).text("driver")
    config = config_from_go(given.get("config"))
    if driver == "firecracker":
        return Answer({"cmdline": kernel_params_string(firecracker.classic_kernel_params(config))})
    if driver == "acrn":
        params, defaults = acrn.kernel_params(config), acrn.default_params(config)
    elif driver == "qemu":
        params = kernel_parameters(config, AMD64)
        defaults = AMD64.mode_parameters(config.debug, bool(config.image_path))
    else:
        raise ConfigError("there is no driver that has a guest's kernel of its own", wanted=driver)
    return Answer({"cmdline": kernel_params_string(params), "arch_default_params": serialize_params(defaults)})
