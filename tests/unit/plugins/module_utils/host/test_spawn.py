# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that is started through another one, and becomes it."""

from __future__ import annotations

import os
import pathlib
import sys
import time

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.host import processes
from ansible_collections.kata.hypervisor.plugins.module_utils.host.spawn import spawn_detached
from tests.support.waiting import wait_until


def test_a_process_is_known_by_the_program_it_ends_in(tmp_path: pathlib.Path) -> None:
    late = [os.path.realpath("/bin/sh"), "-c", 'sleep 0.1; exec "$@"', "sh"]
    child = spawn_detached([sys.executable, "-c", "import time; time.sleep(60)"], str(tmp_path / "log"), wrapper=late)
    try:
        identity = processes.identify(child.pid)
        assert identity is not None
        assert identity.executable == os.path.realpath(sys.executable)
        time.sleep(0.1)
        assert identity.is_alive()
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("wrapper", [None, [os.path.realpath("/bin/sh"), "-c", 'exec "$@"', "sh"]])
@pytest.mark.parametrize("passes", [True, False])
def test_a_process_gets_no_descriptor_and_no_directory_of_the_task(
    tmp_path: pathlib.Path, wrapper: list[str] | None, passes: bool
) -> None:
    """A descriptor of a directory of the host would lead out of a jail (CVE-2024-21626 of runc)."""
    host, passed = (os.open(place, os.O_RDONLY | os.O_DIRECTORY) for place in ("/etc", tmp_path))
    os.set_inheritable(host, True)
    program = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
    log = tmp_path / "log"
    child = spawn_detached(program, str(log), (passed,) if passes else (), wrapper=wrapper)
    try:
        # Until then it has files of its own open.
        wait_until(lambda: "ready" in log.read_text(), "the program is ready")
        process = pathlib.Path(f"/proc/{child.pid}")
        assert {os.readlink(path) for path in (process / "fd").iterdir()} - {"/dev/null", str(log)} == (
            {str(tmp_path)} if passes else set()
        )
        assert os.readlink(process / "cwd") == "/"
    finally:
        child.kill()
        child.wait()
        os.close(host)
        os.close(passed)


def test_a_unit_that_is_still_going_away_is_waited_for(tmp_path: pathlib.Path) -> None:
    gone = tmp_path / "gone"
    script = f'[ -e {gone} ] || {{ touch {gone}; echo "Unit x.scope was already loaded" >&2; exit 1; }}; exec "$@"'
    child = spawn_detached(
        ["/bin/sleep", "60"], str(tmp_path / "log"), wrapper=[os.path.realpath("/bin/sh"), "-c", script, "sh"]
    )
    assert child.poll() is None
    child.kill()
    child.wait()


def test_a_supervisor_that_says_no_is_not_asked_again(tmp_path: pathlib.Path) -> None:
    script = f'echo x >>{tmp_path}/asked; echo "Unknown assignment" >&2; exit 1'
    child = spawn_detached(
        ["/bin/sleep", "60"], str(tmp_path / "log"), wrapper=[os.path.realpath("/bin/sh"), "-c", script]
    )
    assert child.wait() == 1
    assert (tmp_path / "asked").read_text() == "x\n"
