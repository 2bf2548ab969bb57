# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.sandbox_items, and its old name."""

from __future__ import annotations

import pathlib

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.kata.hypervisor.plugins.filter.sandbox_items import sandbox_items

ROOT = pathlib.Path(__file__).resolve().parents[4]


def test_ids_and_sandboxes_get_the_same_options() -> None:
    assert sandbox_items(["a", {"id": "b", "state": "started"}], state="paused", vcpus=None) == [
        {"id": "a", "state": "paused"},
        {"id": "b", "state": "paused"},
    ]


@pytest.mark.parametrize("item", [True, {"name": "a"}, None])
def test_what_is_no_sandbox_is_refused(item: object) -> None:
    with pytest.raises(AnsibleFilterError, match="must be a sandbox with an id"):
        sandbox_items([item], state="paused")


def test_the_old_name_leads_to_the_filter() -> None:
    routing = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["plugin_routing"]
    assert routing["filter"]["wish"]["redirect"] == "kata.hypervisor.sandbox_items"
