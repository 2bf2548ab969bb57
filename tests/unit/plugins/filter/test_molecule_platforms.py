# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kata.hypervisor.plugins.filter.molecule_platforms import molecule_platforms

PLATFORMS = [
    {"name": "web-1", "groups": ["web", "all_of_it"], "sandbox": {"image": "debian", "vcpus": 2}},
    {"name": "web-2", "groups": ["web"], "host": "kvm-1", "sandbox": {"volumes": [{"name": "data", "size_mb": 64}]}},
]


def test_sandboxes_by_host() -> None:
    first, second = molecule_platforms(PLATFORMS, "/tmp/one")["hosts"]
    assert (first["name"], second["name"]) == ("localhost", "kvm-1")
    [web1], [web2] = first["sandboxes"], second["sandboxes"]
    assert web1["id"].startswith("web-1-") and web1["hostname"] == "web-1" and web1["state"] == "started"
    assert (web1["image"], web1["vcpus"], web1["network"]) == ("debian", 2, "user")
    assert second["volumes"] == [web2["volumes"][0]["name"]]
    assert web2["volumes"][0]["size_mb"] == 64 and web2["volumes"][0]["name"].startswith("data-")


def test_the_inventory_of_the_guests() -> None:
    inventory = molecule_platforms(PLATFORMS, "/tmp/one")["inventory"]["all"]
    assert inventory["children"] == {
        "web": {"hosts": {"web-1": None, "web-2": None}},
        "all_of_it": {"hosts": {"web-1": None}},
    }
    assert inventory["hosts"]["web-2"]["kata_sandbox_host"] == "kvm-1"
    assert "kata_sandbox_host" not in inventory["hosts"]["web-1"]
    assert {one["ansible_connection"] for one in inventory["hosts"].values()} == {"kata.hypervisor.sandbox"}


def test_guests_are_looked_for_where_their_sandboxes_are() -> None:
    platform = {"name": "a", "sandbox": {"state_dir": "/srv/state", "run_dir": "/srv/run"}}
    guest = molecule_platforms([platform], "/tmp/one")["inventory"]["all"]["hosts"]["a"]
    assert (guest["kata_sandbox_state_dir"], guest["kata_sandbox_run_dir"]) == ("/srv/state", "/srv/run")


@pytest.mark.parametrize("volume", [{"size_mb": 64}, {"name": ""}, "data"])
def test_a_volume_without_a_name(volume: object) -> None:
    with pytest.raises(AnsibleFilterError, match="each volume of the platform a must have a name"):
        molecule_platforms([{"name": "a", "sandbox": {"volumes": [volume]}}], "/tmp")


def test_projects_that_share_a_host_do_not_meet() -> None:
    ids = [molecule_platforms(PLATFORMS, place)["hosts"][0]["sandboxes"][0]["id"] for place in ("/a", "/b", "/a")]
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize("platforms", [[{}], [{"name": ""}], [{"name": "a"}, {"name": "a"}], ["a"]])
def test_platforms_that_are_none(platforms: list) -> None:
    with pytest.raises(AnsibleFilterError, match="name"):
        molecule_platforms(platforms, "/tmp")
