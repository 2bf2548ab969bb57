# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Firecracker is told, and what its versions know: pure functions."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import (
    device_ids,
    jailer,
    requests,
    vulnerabilities,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api import dialect, endpoints
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.kernel_params import kernel_params
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.state import (
    FirecrackerState,
    Jail,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.base import RateLimit
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_options import DEVICE_ID
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import Param
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SANDBOX_ID


@given(st.from_regex(DEVICE_ID, fullmatch=True))
def test_device_ids_go_there_and_back(name: str) -> None:
    there = device_ids.api_id(name)
    assert re.fullmatch("[A-Za-z0-9_]{1,64}", there)
    assert there != device_ids.ROOT_DRIVE and device_ids.placeholder_number(there) is None
    assert device_ids.user_id(there) == name


@given(st.from_regex(SANDBOX_ID, fullmatch=True), st.from_regex(SANDBOX_ID, fullmatch=True))
def test_jails_ids_are_the_jailers_and_differ(one: str, other: str) -> None:
    assert re.fullmatch("[A-Za-z0-9-]{1,64}", jailer.jail_id(one))
    assert (jailer.jail_id(one) == jailer.jail_id(other)) == (one == other)


@pytest.mark.parametrize(
    ("limit", "buckets"),
    [
        (RateLimit(), ({"size": 0, "refill_time": 0}, {"size": 0, "refill_time": 0})),
        (RateLimit(bandwidth=5), ({"size": 5, "refill_time": 1000}, {"size": 0, "refill_time": 0})),
        (
            RateLimit(bandwidth=5, bandwidth_burst=7, ops=2, ops_burst=3),
            (
                {"size": 5, "refill_time": 1000, "one_time_burst": 7},
                {"size": 2, "refill_time": 1000, "one_time_burst": 3},
            ),
        ),
    ],
)
def test_limits(limit: RateLimit, buckets: tuple[dict[str, int], dict[str, int]]) -> None:
    assert requests.rate_limiter(limit) == {"bandwidth": buckets[0], "ops": buckets[1]}


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ((0, 17), "classic"),
        ((0, 20, 1), "classic"),
        ((0, 21), "legacy"),
        ((0, 22, 4), "legacy"),
        ((0, 23), "0.23-0.25"),
        ((0, 25, 2), "0.23-0.25"),
        ((1, 0), "v1"),
        ((1, 16), "v1"),
    ],
)
def test_dialects(version: tuple[int, ...], name: str) -> None:
    assert dialect.dialect_for(version).name == name


@pytest.mark.parametrize(
    ("version", "jailed", "pci", "holes"),
    [
        ((0, 21, 2), False, False, ["CVE-2020-27174"]),
        ((0, 21, 3), False, False, []),
        ((0, 22, 0), False, False, ["CVE-2020-27174"]),
        ((1, 13, 1), True, False, ["CVE-2026-1386"]),
        ((1, 14, 0), True, True, ["CVE-2026-1386", "CVE-2026-5747"]),
        ((1, 14, 1), True, False, []),
        ((1, 14, 3), False, True, ["CVE-2026-5747"]),
        ((1, 15, 0), False, True, ["CVE-2026-5747"]),
        ((1, 15, 1), True, True, []),
    ],
)
def test_known_vulnerabilities(version: tuple[int, ...], jailed: bool, pci: bool, holes: list[str]) -> None:
    assert [hole.name for hole in vulnerabilities.known_vulnerabilities(version, jailed, pci)] == holes


@pytest.mark.parametrize(
    ("request_line", "state", "since"),
    [
        ("PATCH /vm", "Running", (0, 23)),
        ("PUT /snapshot/create", "Paused", (0, 23)),
        ("PATCH /drives/a", "Running", (0, 17)),
        ("PUT /drives/a", "Running", (1, 16)),
        ("GET /vm/config", "Not started", (0, 25)),
        ("PUT /hotplug/memory", "Not started", (1, 14)),
    ],
)
def test_what_is_accepted_when_and_since_when(request_line: str, state: str, since: tuple[int, int]) -> None:
    method, path = request_line.split()
    assert endpoints.has(since, method, path, state)
    assert not endpoints.has((since[0], since[1] - 1, 9), method, path, state) or since == (0, 17)


@pytest.mark.parametrize(
    ("request_line", "state"),
    [
        ("PUT /snapshot/create", "Running"),
        ("PATCH /balloon", "Not started"),
        ("GET /hotplug/memory", "Not started"),
        ("PUT /vsock", "Running"),
    ],
)
def test_what_is_not_accepted(request_line: str, state: str) -> None:
    assert not endpoints.has((9, 9), *request_line.split(), state)


def test_the_users_parameters_come_last() -> None:
    """Trap T2."""
    config = HypervisorConfig(image_path="/i", kernel_params=[Param("panic", "9"), Param("root", "/dev/vdb")])
    assert kernel_params(config)[-2:] == config.kernel_params
    assert Param("pci", "off") in kernel_params(config)
    config.enable_pci = True
    assert Param("pci", "off") not in kernel_params(config)


def test_states_go_there_and_back() -> None:
    state = FirecrackerState(
        uuid="u", version=[1, 16, 1], jail=Jail("/b", "firecracker", "web", 1, 2), taps=["t"], placeholders=["", "d"]
    )
    assert FirecrackerState.from_dict({**state.as_dict(), "unheard of": 1}) == state


@pytest.mark.parametrize(
    ("text", "version"),
    [("Firecracker v1.16.1\n", (1, 16, 1)), ("Jailer v0.25.2", (0, 25, 2)), ("v1.7", (1, 7, 0)), ("bash", ())],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert dialect.parse_version(text) == version
