# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.wish."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kata.hypervisor.plugins.filter.wish import wish


def test_ids_and_sandboxes_get_the_same_options() -> None:
    assert wish(["a", {"id": "b", "state": "started"}], state="paused", vcpus=None) == [
        {"id": "a", "state": "paused"},
        {"id": "b", "state": "paused"},
    ]


@pytest.mark.parametrize("item", [True, {"name": "a"}, None])
def test_what_is_no_sandbox_is_refused(item: object) -> None:
    with pytest.raises(AnsibleFilterError, match="must be a sandbox with an id"):
        wish([item], state="paused")
