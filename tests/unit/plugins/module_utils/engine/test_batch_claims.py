# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes of one task that request what only one of them can have."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.batch import converge_many
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from tests.support.mock_lab import BOOT, MockLab

VOLUME = {"name": "data", "size_mb": 2, "filesystem": "none"}
USER = {"network": "user", "state": "started"}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("first", "second", "option"),
    [
        ({"volumes": [VOLUME]}, {"volumes": [{**VOLUME, "read_only": True}]}, "volumes"),
        ({**USER, "ports": ["8080:80"]}, {**USER, "ports": ["127.0.0.1:8080:81"]}, "ports"),
        ({"network": "net", "ports": ["8080:80"]}, {**USER, "ports": ["8080:80"]}, "ports"),
        ({"network": "net", "address": "10.0.0.5"}, {"network": "net", "address": "10.0.0.5"}, "address"),
        ({"network": "net", "address6": "fd00::5"}, {"network": "net", "address6": "fd00::0:5"}, "address6"),
    ],
)
def test_one_task_cannot_give_the_same_to_two_sandboxes(
    tmp_path: pathlib.Path, check: bool, first: dict[str, Any], second: dict[str, Any], option: str
) -> None:
    lab = MockLab(tmp_path / "lab")
    specs = [lab.spec("one", **BOOT, **first), lab.spec("two", **BOOT, **second)]
    with pytest.raises(ConfigError, match="sandbox one of this task requests the same") as caught:
        converge_many(specs, check, factory=lab.factory)
    assert (caught.value.sandbox, caught.value.option) == ("two", option)
    assert not lab.root.exists()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"volumes": [VOLUME]}, {"state": "absent", "volumes": [VOLUME]}),
        ({**USER, "ports": ["127.0.0.1:18095:80"]}, {**USER, "ports": ["127.0.0.2:18095:80"]}),
        ({**USER, "ports": ["18095:80"]}, {**USER, "ports": ["18095:80/udp"]}),
        ({**USER, "ports": ["18095:80"]}, {**USER, "ports": ["18095:80"], "state": "stopped"}),
    ],
)
def test_what_two_sandboxes_can_have_is_not_refused(
    tmp_path: pathlib.Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    lab = MockLab(tmp_path / "lab")
    specs = [lab.spec("one", **BOOT, **first), lab.spec("two", **BOOT, **second)]
    assert not any(result.get("failed") for result in converge_many(specs, factory=lab.factory))
