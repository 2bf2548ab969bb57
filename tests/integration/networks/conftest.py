# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks in network namespaces: a host, the world and guests."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Iterator

import pytest

from tests.support.network_lab import NetworkLab, network_lab


@pytest.fixture
def net(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> Iterator[NetworkLab]:
    """A host, the world and guests for one test."""
    if os.geteuid():
        pytest.skip("network namespaces need root")
    for program in ("nft", "dnsmasq", "busybox"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} must be installed: make packages")
    with network_lab(tmp_path, getattr(request, "param", False)) as lab:
        yield lab
