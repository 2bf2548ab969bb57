# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An adversary in a real jail: whatever it does there, nothing outside changes, and its sandbox can always be removed."""

from __future__ import annotations

import os

from tests.support.firecracker_lab import FirecrackerLab
from tests.support.jail_adversary import attacked
from tests.support.stand_ins import needs_root
from tests.support.waiting import wait_until


@needs_root
def test_nothing_outside_of_a_jail_changes_while_its_user_attacks(jailed: FirecrackerLab) -> None:
    """make soak has a thousand rounds."""
    count = attacked(jailed, int(os.environ.get("KATA_ATTACK_ROUNDS", "8")))
    assert count.get("start done", 0) > 0, count


@needs_root
def test_a_fifo_for_a_pid_file_and_a_log_stops_nothing(jailed: FirecrackerLab) -> None:
    jailed.start()
    found = jailed.driver()
    jail, pid = found.vmm.state.jail, found.pid()
    assert jail is not None
    for name in (f"{jail.program}.pid", "vmm.log"):
        if os.path.lexists(jail.path(name)):
            try:
                os.unlink(jail.path(name))
            except OSError:  # It is a mount.
                continue
        os.mkfifo(jail.path(name))
    assert jailed.facts()["pid"] == pid
    os.kill(pid, 9)
    wait_until(lambda: not jailed.driver().pid(), "the end of the VMM")
    assert jailed.facts()["state"] == "crashed"
    assert jailed.run(state="stopped", stop_timeout=0)["sandbox"]["state"] == "stopped"
    jailed.start()
    jail = jailed.driver().vmm.state.jail
    assert jail is not None
    os.unlink(jail.path(f"{jail.program}.pid"))
    os.mkfifo(jail.path(f"{jail.program}.pid"))
    jailed.run(state="absent", stop_timeout=0)


@needs_root
def test_a_link_to_another_sandboxs_socket_is_not_spoken_to(jailed: FirecrackerLab) -> None:
    for name in ("one", "two"):
        jailed.start(name)
    one, two = (jailed.driver(name).vmm.state.jail for name in ("one", "two"))
    assert one is not None and two is not None
    for replace in (
        lambda: os.symlink(two.path("api.sock"), one.path("api.sock")),
        lambda: os.link(two.path("api.sock"), one.path("api.sock")),
    ):
        os.unlink(one.path("api.sock"))
        replace()
        facts = jailed.facts("one")
        assert facts["state"] == "unresponsive" and "api.sock" in facts["reason"]
    assert jailed.run("one", state="absent", stop_timeout=1)["sandbox"]["state"] == "absent"
    assert jailed.facts("two")["state"] == "started"
