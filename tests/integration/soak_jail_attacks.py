# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thousand rounds of tasks against an adversary in a jail, by make soak; KATA_ATTACK_ROUNDS and KATA_SOAK_SEED say how many and which."""

from __future__ import annotations

import os
import time

from tests.support.firecracker_lab import FirecrackerLab
from tests.support.jail_adversary import attacked
from tests.support.lab import removed_afterwards
from tests.support.stand_ins import IS_ROOT


def test_a_thousand_rounds_of_attacks() -> None:
    assert IS_ROOT, "only root can make a jail"
    rounds = int(os.environ.get("KATA_ATTACK_ROUNDS", "1000"))
    begun = time.monotonic()
    with removed_afterwards(FirecrackerLab(True)) as lab:
        count = attacked(lab, rounds, int(os.environ.get("KATA_SOAK_SEED", "1")))
    print(f"{rounds} rounds in {time.monotonic() - begun:.0f} s: {count}")
