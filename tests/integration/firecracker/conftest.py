# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laboratories of Firecrackers: real ones where the environment names them, else stand-ins that fail on request."""

from __future__ import annotations

import os
from typing import Callable, Iterator

import pytest

from tests.support.firecracker_lab import FirecrackerLab
from tests.support.lab import removed_afterwards
from tests.support.stand_ins import IS_ROOT, REAL_FIRECRACKER, REAL_JAILER


@pytest.fixture(params=["plain", "jailed"])
def lab(request: pytest.FixtureRequest) -> Iterator[FirecrackerLab]:
    """Firecrackers in a jail, and without one."""
    if request.param == "jailed" and not IS_ROOT:
        pytest.skip("only root can make a jail")
    if request.param == "jailed" and bool(REAL_FIRECRACKER) != bool(REAL_JAILER):
        pytest.skip("KATA_TEST_FIRECRACKER and KATA_TEST_JAILER go together")
    yield from _laboratory(request.param == "jailed")


@pytest.fixture
def plain() -> Iterator[FirecrackerLab]:
    """Firecrackers without a jail."""
    yield from _laboratory(False)


@pytest.fixture
def jailed() -> Iterator[FirecrackerLab]:
    """Firecrackers in jails."""
    if not IS_ROOT:
        pytest.skip("only root can make a jail")
    yield from _laboratory(True)


def _laboratory(jail: bool) -> Iterator[FirecrackerLab]:
    with removed_afterwards(FirecrackerLab(jail)) as made:
        yield made
        os.environ.pop("FIRECRACKER_DOUBLE_FAULTS", None)


@pytest.fixture
def misbehave(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the stand-in fail in a way that its source names."""
    return lambda *faults: monkeypatch.setenv("FIRECRACKER_DOUBLE_FAULTS", ",".join(faults))


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the stand-ins be of a version."""
    return lambda number: monkeypatch.setenv("FIRECRACKER_DOUBLE_VERSION", number)
