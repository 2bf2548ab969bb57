# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the host is a virtual machine, from cpuinfo."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

from adapters.answer import Answer
from adapters.fields import Fields, raw_bytes
from ansible_collections.kata.hypervisor.plugins.module_utils.host.proc import read_running_on_vmm

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    goarch = line.text("goarch")
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "cpuinfo")
        if "content" in line:
            path.write_bytes(raw_bytes(line.text("content")))
        elif line.text("path_kind") == "directory":
            path.mkdir()
        return Answer(read_running_on_vmm(str(path), MACHINES.get(goarch, goarch)))
