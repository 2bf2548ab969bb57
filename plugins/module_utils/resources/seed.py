# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seed of a sandbox: a small disk, labelled `cidata`, that tells the guest its name, its keys, its address and what to run.

It is one file in the sandbox's state directory, readable by root alone, which goes with the directory.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any

from ..errors import ConfigError, HostError
from ..guest.iso9660 import image
from ..host.atomic_files import replace_file, write_problem
from ..records.layout import SandboxLayout
from .nocloud import LABEL, Seed, network_config_of, seed_digest, seed_files

__all__ = [
    "Seed",
    "device_of_seed",
    "is_current",
    "network_config_of",
    "plan_seed",
    "remove_seed",
    "seed_digest",
    "seed_files",
    "seed_path",
    "write_seed",
]

FILE = "seed.iso"
DRAFT = ".seed.iso.new"
#: The id of the seed's device.
DEVICE_ID = LABEL
#: It holds secrets.
MODE = 0o600


def seed_path(layout: SandboxLayout) -> str:
    """The file of a sandbox's seed, whether it exists or not."""
    return os.path.join(layout.state_dir, FILE)


def plan_seed(layout: SandboxLayout, seed: Seed) -> bool:
    """Whether `write_seed` would change something. Changes nothing.

    :raises ConfigError: the seed cannot be written
    """
    try:
        return not is_current(layout, seed)
    except ValueError as problem:
        raise ConfigError("the seed cannot be written", answer=str(problem)) from problem


def is_current(layout: SandboxLayout, seed: Seed) -> bool:
    """Whether the seed's file has the right content and mode."""
    wanted = image(LABEL, seed_files(seed))
    with contextlib.suppress(OSError):
        descriptor = os.open(seed_path(layout), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            mode = os.fstat(descriptor).st_mode
            return stat.S_ISREG(mode) and stat.S_IMODE(mode) == MODE and stream.read(len(wanted) + 1) == wanted
    return False


def write_seed(layout: SandboxLayout, seed: Seed) -> str:
    """Write the seed's file atomically, readable by its owner alone. Returns its path. A VM that runs keeps the old one until it ends.

    :raises HostError: it cannot be written
    """
    path = seed_path(layout)
    try:
        replace_file(path, image(LABEL, seed_files(seed)), MODE, os.path.join(layout.state_dir, DRAFT))
    except OSError as problem:
        raise write_problem(problem, "the seed could not be written", path) from problem
    return path


def remove_seed(layout: SandboxLayout) -> bool:
    """Remove the seed's file, and the draft of a killed task. Returns whether there was one.

    :raises HostError: it cannot be removed
    """
    removed = False
    for name in (FILE, DRAFT):
        try:
            os.unlink(os.path.join(layout.state_dir, name))
            removed = True
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as problem:
            raise HostError("the seed could not be removed", wanted=seed_path(layout), answer=str(problem)) from problem
    return removed


def device_of_seed(path: str) -> dict[str, Any]:
    """The device by which the guest gets the seed: a read-only disk, on the bus that every hypervisor has and that guests look at first."""
    from ..options.device_options import check_devices

    return check_devices(
        [{"id": DEVICE_ID, "type": "block", "driver": "virtio-blk", "file": path, "format": "raw", "read_only": True}]
    )[0]
