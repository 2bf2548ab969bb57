# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the host is a virtual machine, from cpuinfo."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

from adapters.answer import Answer
from ansible_collections.kata.hypervisor.plugins.module_utils.host import read_running_on_vmm

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def run(given: dict[str, Any]) -> Answer:
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "cpuinfo")
        if given["content"] is not None:
            path.write_bytes(given["content"].encode("utf-8", "surrogateescape"))
        elif given.get("path_kind") == "directory":
            path.mkdir()
        return Answer(read_running_on_vmm(str(path), MACHINES.get(given["goarch"], given["goarch"])))
