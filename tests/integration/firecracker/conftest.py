# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laboratories of Firecrackers: real ones where the environment names them, else stand-ins that can be set to misbehave."""

from __future__ import annotations

import os
from typing import Any, Iterator

import pytest
from vmm_lab import IS_ROOT, REAL_FIRECRACKER, REAL_JAILER, VmmLab, firecracker_lab


@pytest.fixture(params=["plain", "jailed"])
def lab(request: pytest.FixtureRequest) -> Iterator[VmmLab]:
    """Firecrackers in a jail, and without one."""
    if request.param == "jailed" and not IS_ROOT:
        pytest.skip("only root can make a jail")
    if request.param == "jailed" and bool(REAL_FIRECRACKER) != bool(REAL_JAILER):
        pytest.skip("KATA_TEST_FIRECRACKER and KATA_TEST_JAILER go together")
    yield from _laboratory(request.param == "jailed")


@pytest.fixture
def plain() -> Iterator[VmmLab]:
    """Firecrackers without a jail."""
    yield from _laboratory(False)


@pytest.fixture
def jailed() -> Iterator[VmmLab]:
    """Firecrackers in jails."""
    if not IS_ROOT:
        pytest.skip("only root can make a jail")
    yield from _laboratory(True)


def _laboratory(jail: bool) -> Iterator[VmmLab]:
    made = firecracker_lab(jail)
    try:
        yield made
        os.environ.pop("FIRECRACKER_DOUBLE_FAULTS", None)
        made.remove_all()
    finally:
        made.destroy()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tell the stand-in to misbehave."""
    return lambda *faults: monkeypatch.setenv("FIRECRACKER_DOUBLE_FAULTS", ",".join(faults))


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tell the stand-ins which version to be."""
    return lambda number: monkeypatch.setenv("FIRECRACKER_DOUBLE_VERSION", number)
