# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems of Debian releases, made once on a machine and kept: what throw-away hosts and rooms lie over.

Where they are kept: FLEET_CACHE, else ~/.cache/kata-hypervisor/hosts. Needs root and Debian's package mmdebstrap.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import subprocess
from typing import Callable, Sequence

CACHE = pathlib.Path(os.environ.get("FLEET_CACHE", pathlib.Path.home() / ".cache/kata-hypervisor/hosts"))
#: Devices of the machine that a VM uses, for those of them that there are.
DEVICES = ("/dev/kvm", "/dev/net/tun", "/dev/vhost-net", "/dev/vhost-vsock", "/dev/fuse")


class FleetError(Exception):
    """A host could not be made, or did not come up."""


def make(
    name: str, release: str, packages: str, sources: Sequence[str], finish: Callable[[pathlib.Path], None]
) -> pathlib.Path:
    """The file system of that name, which two jobs at a time make once.

    :param packages: beside the smallest system, with commas between them
    :param sources: what mmdebstrap takes them from
    :param finish: does what is left to do to it
    :raises FleetError: it could not be made
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    base = CACHE / name
    with open(CACHE / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if base.is_dir():
            return base
        unfinished = base.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        # A mirror that is some weeks behind will do; signatures are checked all the same.
        late = '--aptopt=Acquire::Check-Valid-Until "false"'
        run(
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            late,
            f"--include={packages}",
            release,
            str(unfinished),
            *sources,
        )
        finish(unfinished)
        (unfinished / "etc/machine-id").write_text("")
        os.rename(unfinished, base)
    return base


def bound_devices() -> list[str]:
    """What systemd-nspawn is told of the machine's devices."""
    return [f"--bind={device}" for device in DEVICES if os.path.exists(device)]


def run(*argv: str) -> None:
    """Run a program to its end; its own words are the error."""
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise FleetError(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stdout[-3000:]}")
