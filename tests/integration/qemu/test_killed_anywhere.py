# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A task that drives real QEMU is killed before this or that change to the disk: the next task makes it good, and nothing is left over.

The unit tests do the same at every change with the mock; here every third is taken.
"""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from tests.support.killing import KILLED, run_killed
from tests.support.qemu_lab import QemuLab

EVERY = 3

CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "start": ([], {"state": "started"}),
    "save": ([{"state": "started"}], {"state": "saved"}),
    "restore": ([{"state": "saved"}], {"state": "started"}),
    "stop": ([{"state": "started"}], {"state": "stopped"}),
    "remove": ([{"state": "started"}], {"state": "absent"}),
}


@pytest.mark.parametrize("case", CASES)
def test_killed_anywhere_it_is_repaired(lab: QemuLab, case: str) -> None:
    preparation, wish = CASES[case]
    boot = {
        "kernel_path": str(lab.assets.kernel),
        "initrd_path": str(lab.assets.initrd),
        "memory_mb": 192,
        "accelerator": "tcg",
        "stop_timeout": 0,
    }
    wish = {**wish, **(boot if case == "start" else {"stop_timeout": 0})}
    kill, code = 1, KILLED
    while code == KILLED:
        for step in preparation:
            lab.run(**boot, **step)
        spec = lab.spec(**wish)
        code = run_killed(lab.root, kill, lambda spec=spec: converge(spec))
        assert code in (0, KILLED)
        foretold = lab.check(**wish)["actions"]
        assert lab.run(**wish)["actions"] == foretold, f"killed before change {kill}"
        assert lab.run(**wish)["actions"] == []
        assert lab.facts()["state"] == wish["state"]
        lab.remove_all()
        kill += EVERY
    assert kill > 2 * EVERY
