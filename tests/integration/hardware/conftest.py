# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of this directory run on the host that `tests.support.hardware_host` makes, by a pytest there.

They all run in one boot of it. Here each has the outcome it had there.
"""

from __future__ import annotations

import functools
import os
import pathlib
import shutil
import sys
import tempfile
import xml.etree.ElementTree
from typing import Any

import pytest

from tests.support import hardware_host
from tests.support.guest_assets import Assets

HERE = pathlib.Path(__file__).resolve().parent

#: Set where the tests really run: the directory that is shared with this machine.
SHARE = os.environ.get("KATA_HARDWARE_SHARE", "")


@pytest.fixture(scope="session")
def assets() -> Assets:
    """A guest that has the drivers of the devices."""
    made = Assets(pathlib.Path(SHARE))
    made.initrd = made.kernel.with_name("guest.img")
    return made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Here nothing is set up for them."""
    if SHARE:
        return
    for item in items:
        if is_ours(item):
            item.fixturenames.clear()  # type: ignore[attr-defined]
            # What they need there is no matter of this machine.
            item.own_markers.clear()


def is_ours(item: pytest.Item) -> bool:
    """Is it a test of this directory?"""
    return HERE in item.path.parents


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Give a test the outcome that it had on the host."""
    if SHARE:
        return None
    outcomes = run_there(tuple(item.nodeid for item in pyfuncitem.session.items if is_ours(item)))
    if isinstance(outcomes, hardware_host.NoHost):
        pytest.skip(str(outcomes))
    if isinstance(outcomes, RuntimeError):
        pytest.fail(str(outcomes), pytrace=False)
    outcome, words = outcomes[pyfuncitem.name]
    if outcome == "skipped":
        pytest.skip(words)
    if outcome != "passed":
        pytest.fail(words, pytrace=False)
    return True


@functools.cache
def run_there(tests: tuple[str, ...]) -> dict[str, tuple[str, str]] | hardware_host.NoHost | RuntimeError:
    """Run tests on a host of their own; by name, how each ended and what there is to say of that. Or why there was no host: it is tried once."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="kata-hardware-"))
    directory.chmod(0o755)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "--color=no",
        "-p",
        "no:cacheprovider",
        f"--junitxml={directory}/results.xml",
        *tests,
    ]
    try:
        passed_on = {
            name: os.environ[name] for name in ("KATA_TEST_FIRECRACKER", "KATA_TEST_JAILER") if name in os.environ
        }
        hardware_host.run(command, directory, {"KATA_HARDWARE_SHARE": str(directory), **passed_on})
        if not (directory / "results.xml").exists():
            return RuntimeError((directory / "output").read_text(errors="replace")[-3000:])
        results = xml.etree.ElementTree.parse(directory / "results.xml").iter("testcase")
        return {result.attrib["name"]: outcome_of(result) for result in results}
    except (hardware_host.NoHost, RuntimeError) as problem:
        return problem
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def outcome_of(result: Any) -> tuple[str, str]:
    """How a test of a JUnit report ended."""
    for problem in result:
        if problem.tag in ("failure", "error"):
            return problem.tag, problem.text or ""
        if problem.tag == "skipped":
            return problem.tag, problem.get("message", "")
    return "passed", ""
