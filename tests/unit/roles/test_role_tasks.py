# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many tasks of each role run on a host that is already as it should be. Each costs the controller about as much as a ping."""

from __future__ import annotations

import pathlib

import pytest
import yaml

ROLES = pathlib.Path(__file__).resolve().parents[3] / "roles"
#: Actions that send nothing to the host.
LOCAL = {"assert", "debug", "fail", "include_tasks", "include_vars", "set_fact"}
#: By role: tasks that reach the host at most, and all tasks. What is not asked for is in files that are included on request.
MOST = {
    "kata_host": (2, 3),
    "kata_vmm": (2, 5),
    "kata_kernel": (2, 5),
    "kata_image": (1, 4),
    "kata_network": (2, 3),
    "kata_sandbox": (1, 4),
}


def actions(tasks: list[dict]) -> list[str]:
    """The action of each task, without the name of its collection."""
    found = []
    for task in tasks:
        names = [key for key in task if key.count(".") == 2]
        assert len(names) == 1, f"{task['name']} must have one action with its full name, and no block"
        found.append(names[0].rpartition(".")[2])
    return found


@pytest.mark.parametrize("role", MOST)
def test_a_role_has_few_tasks(role: str) -> None:
    found = actions(yaml.safe_load((ROLES / role / "tasks/main.yml").read_text(encoding="utf-8")))
    most_on_host, most = MOST[role]
    assert len([action for action in found if action not in LOCAL]) <= most_on_host, found
    assert len(found) <= most, found


def test_site_has_no_other_roles() -> None:
    (play,) = yaml.safe_load((ROLES.parent / "playbooks/site.yml").read_text(encoding="utf-8"))
    assert [role["role"].rpartition(".")[2] for role in play["roles"]] == list(MOST)
