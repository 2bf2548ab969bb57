# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel command lines of three drivers: each word that one has and the other has not, and whether the user's come last."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from adapters.answer import Answer, Judged
from adapters.fields import Fields
from adapters.go_config import config_from_go
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn import kernel_params as acrn
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import (
    kernel_params as firecracker,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import command_line
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import machine_named
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import (
    Param,
    kernel_params_string,
    serialize_params,
)


class SameWords(Judged):
    """Kernel parameters, compared word by word with the recorded ones: a text, or a list of texts.

    :param own: the user's parameters, which must come last: of two for one thing, a kernel takes the last
    """

    def __init__(self, params: list[Param], own: list[Param]) -> None:
        self.own = kernel_params_string(own)
        self.words = kernel_params_string(params).split(" ")

    def differences_from(self, where: str, expected: Any) -> list[str]:
        text = " ".join(map(str, expected)) if isinstance(expected, list) else str(expected or "")
        return word_differences(where, text, " ".join(self.words), self.own)


def word_differences(where: str, recorded: str, ours: str, own: str) -> list[str]:
    """The words that one of two kernel command lines has and the other has not, and whether the user's come last in one of them alone."""
    old, new = Counter(recorded.split(" ")), Counter(ours.split(" "))
    found = [f"{where}: {word} is missing" for word in old - new]
    found += [f"{where}: {word} is added" for word in new - old]
    last = [not own or text == own or text.endswith(f" {own}") for text in (recorded, ours)]
    if last[0] != last[1]:
        found.append(f"{where}: own parameters last: expected {last[0]}, got {last[1]}")
    return found


def _qemu(config: HypervisorConfig) -> list[Param]:
    """The parameters of a guest on a PC under KVM, whose image is an NVDIMM that it maps, as Kata 1.x has it."""
    config = dataclasses.replace(config, image_driver="nvdimm" if config.image_path else "")
    plan = command_line.VmPlan("golden", "", config, machine_named("pc"), "kvm", "", "", [])
    plan.image_partitioned = plan.image_mapped = bool(config.image_path)
    return command_line.kernel_parameters_of(plan)


def run(given: dict[str, Any]) -> Answer:
    driver = Fields(given).text("driver")
    config = config_from_go(given.get("config"))
    if driver != "acrn" and config.image_path and config.initrd_path:
        # Which of the two a guest boots from is not guessed.
        dataclasses.replace(config, kernel_path="/kernel").check_consistent()
    without = dataclasses.replace(config, kernel_params=[], default_max_vcpus=0)
    if driver == "firecracker":
        return Answer({"cmdline": SameWords(firecracker.kernel_params(config), config.kernel_params)})
    if driver == "acrn":
        params, defaults = acrn.kernel_params(config), acrn.default_params(config)
        return Answer({"cmdline": kernel_params_string(params), "arch_default_params": serialize_params(defaults)})
    if driver != "qemu":
        raise ConfigError("there is no driver that has a guest's kernel of its own", wanted=driver)
    return Answer(
        {
            "cmdline": SameWords(_qemu(config), config.kernel_params),
            "arch_default_params": SameWords(_qemu(without), []),
        }
    )
