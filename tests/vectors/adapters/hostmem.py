# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's memory, from meminfo."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

from adapters.answer import Answer, attempt
from adapters.fields import Fields, raw_bytes
from ansible_collections.kata.hypervisor.plugins.module_utils.host.proc import parse_mem_total_kb, read_host_memory_mb


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "meminfo")
        if "content" in line:
            path.write_bytes(raw_bytes(line.text("content")))
        elif line.text("path_kind") == "directory":
            path.mkdir()
        memory, memory_error = attempt(read_host_memory_mb, str(path))
    # The driver asks for MiB alone; the number in kB is what it reads them from.
    size, error = attempt(parse_mem_total_kb, line.text("content")) if "content" in line else (0, memory_error)
    output = {"size_kb": str(size or 0)}
    if "content" in line:
        output |= {"host_mem_mb": memory or 0, "host_mem_mb_error": memory_error}
    return Answer(output, error.error if error else None)
