# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever acrnctl and acrn-dm print: typed errors, in time, within bounds, and a VM ends all the same."""

from __future__ import annotations

import os
import pathlib
import random
import subprocess
import time
from typing import Callable, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, VmmError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.processes import identify
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn import command_line, start, vmm
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn.driver import AcrnHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.answers import AnswerError
from tests.support.waiting import PATIENCE
from tests.support.wrong_answers import wrong_text

#: How many wrong answers; make soak has more.
ANSWERS = int(os.environ.get("KATA_WRONG_ANSWERS", "20000"))
LISTS = ("kata-a\t\tstarted\nkata-b\t\tstopped\n", "There are no VMs\n", "kata-a\t\tuntracked\n")
VERSIONS = (
    "DM version is: 2.7-stable-2.7-2021 (daily tag:none), build by root@2021-12-01 10:00:00\n",
    "DM: 3.2-stable-2023-05-01-00:00:00-abc build by root@2023-05-01\n",
)
#: Programs that answer otherwise, as shell scripts.
MISBEHAVIOUR = {
    "endless": "exec yes 'kata-a started'",
    "endless without lines": "exec tr '\\0' x </dev/zero",
    "binary": "printf '\\000\\377\\033[2Jkata-a\\tstarted\\n'",
    "thousands of lines": "seq 1 5000 | sed 's/$/ started/'",
    "silent for ever": "sleep 600",
    "deaf": "trap '' TERM INT; sleep 600",
    "killed": "kill -9 $$",
    "other words": "echo 'the manager is down'",
    "nothing": "true",
}


def shown(error: object) -> str:
    """An error's text, which a terminal can show."""
    text = str(error)
    assert all(one.isprintable() or one in "\n\t" for one in text) and len(text) < 3000
    return text


@pytest.fixture
def program(tmp_path: pathlib.Path) -> Callable[[str], str]:
    def make(script: str) -> str:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def driver(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AcrnHypervisor]:
    """A driver whose VM runs: another process plays its acrn-dm."""
    monkeypatch.setattr(vmm, "CTL_SECONDS", 0.3)
    (tmp_path / "run").mkdir()
    made = AcrnHypervisor(Context("a", str(tmp_path / "run"), str(tmp_path / "state")))
    with subprocess.Popen(["sleep", "600"]) as process:
        made.vmm.state.name, made.vmm.state.version = "kata-a", [3, 2]
        made.vmm.state.process = identify(process.pid)
        yield made
        process.kill()


def test_no_list_of_vms_is_more_than_a_typed_error() -> None:
    random_ = random.Random(1)
    refused = 0
    for _number in range(ANSWERS):
        text = wrong_text(random_.choice(LISTS), random_)
        try:
            found = command_line.vm_states(text)
        except AnswerError as error:
            refused += 1
            assert shown(error)
            continue
        assert all(
            name.isprintable() and len(name) <= 512 and command_line.STATE.fullmatch(state)
            for name, state in found.items()
        )
    assert ANSWERS / 10 < refused < ANSWERS


def test_no_version_is_more_than_a_version_or_none() -> None:
    random_ = random.Random(2)
    for _number in range(ANSWERS):
        found = command_line.parse_version(wrong_text(random_.choice(VERSIONS), random_))
        assert found == () or (len(found) == 2 and max(found) < 10000)


@pytest.mark.parametrize("script", MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
def test_a_vm_is_observed_and_ended_whatever_acrnctl_does(
    driver: AcrnHypervisor, program: Callable[[str], str], script: str
) -> None:
    driver.vmm.state.ctl = program(script)
    begun = time.monotonic()
    observed = driver.observe()
    assert observed.power in ("unresponsive", "failed") and observed.pid and shown(observed.reason)
    process = driver.vmm.state.process
    driver.cleanup()
    assert process is not None and not process.is_alive() and time.monotonic() - begun < PATIENCE


@pytest.mark.parametrize("ctl", ["/nowhere", "\0", "", "\ud800", "/", "/etc/passwd"])
def test_a_vm_is_ended_without_an_acrnctl(driver: AcrnHypervisor, ctl: str) -> None:
    driver.vmm.state.ctl = ctl
    with pytest.raises(VmmError, match="acrnctl could not be run"):
        driver.vmm.control("list")
    assert driver.observe().power == "unresponsive"
    driver.cleanup()
    assert driver.pid() == 0


@pytest.mark.parametrize(
    "script", [script for name, script in MISBEHAVIOUR.items() if name not in ("silent for ever", "deaf")]
)
def test_what_is_no_acrn_dm_is_an_asset_error(program: Callable[[str], str], script: str) -> None:
    with pytest.raises(AssetError, match="must be an acrn-dm") as caught:
        start.version_of(program(script))
    assert shown(caught.value)
