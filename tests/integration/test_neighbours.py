# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a machine has an address, asked in network namespaces that the test makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Iterator

import pytest

from tests.support.checkout import ROOT

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip"), reason="network namespaces need root and iproute2"
)

HOST, GUEST = f"nh{os.getpid()}", f"ng{os.getpid()}"
ASK = """
import sys
from ansible_collections.kata.hypervisor.plugins.module_utils.host import neighbours
if sys.argv[1] == "forget":
    neighbours.forget(sys.argv[2])
print(neighbours.answers(sys.argv[2]))
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def network() -> Iterator[None]:
    """Two namespaces with a cable between them. The guest has an IPv4 and an IPv6 address."""
    try:
        ip("netns", "add", HOST)
        ip("netns", "add", GUEST)
        ip("link", "add", "h0", "netns", HOST, "type", "veth", "peer", "name", "g0", "netns", GUEST)
        for namespace, device, number in ((HOST, "h0", "1"), (GUEST, "g0", "5")):
            for address in (f"192.0.2.{number}/24", f"fd00:2::{number}/64"):
                ip("-n", namespace, "address", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
            ip("-n", namespace, "link", "set", device, "up")
        yield
    finally:
        for namespace in (HOST, GUEST):
            subprocess.run(["ip", "netns", "delete", namespace], check=False)


def answers(address: str, first: str = "", attempts: int = 15) -> bool:
    """What the host finds after some attempts."""
    command = ["ip", "netns", "exec", HOST, sys.executable, "-c", ASK]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".collections")}
    for attempt in range(attempts):
        words = [first if attempt == 0 else "", address]
        done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=True)
        if done.stdout.strip() == "True":
            return True
    return False


@pytest.mark.parametrize("address", ["192.0.2.5", "fd00:2::5"])
def test_a_machine_answers_until_it_has_lost_the_address(network: None, address: str) -> None:
    # A new interface may take some time before it works.
    assert answers(address, attempts=100)
    prefix = "64" if ":" in address else "24"
    ip("-n", GUEST, "address", "delete", f"{address}/{prefix}", "dev", "g0")
    # What was true before is not reported.
    assert not answers(address, "forget")


@pytest.mark.parametrize("address", ["192.0.2.9", "fd00:2::9", "198.51.100.1"])
def test_nobody_answers_for_an_address_that_nobody_has(network: None, address: str) -> None:
    assert not answers(address)
