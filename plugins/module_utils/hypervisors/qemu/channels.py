# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipes behind the ports for data (`command_line.data_channels`).

QEMU opens both of a port for reading and writing, so neither it nor the guest ever sees an end of them. They lie in the run directory, where only
the user of the task creates and renames files, and belong to the user whom QEMU runs as.
"""

from __future__ import annotations

import stat

from ...errors import HostError
from ...untrusted.files import Directory
from .names import CHANNELS, channel_pipes

#: As QEMU sees them: what it reads, and what it writes.
ENDINGS = (".in", ".out")


def prepare(run_dir: str, count: int, uid: int = -1, gid: int = -1) -> None:
    """Make the pipes for a VM that starts, empty.

    :param uid: whom QEMU runs as, -1 for ourselves
    :raises HostError: they cannot be made
    """
    try:
        with Directory.open(run_dir) as directory:
            for name in (channel_pipes(number) + ending for number in range(count) for ending in ENDINGS):
                directory.unlink(name)
                directory.make_node(name, stat.S_IFIFO, 0, uid=uid, gid=gid)
    except OSError as error:
        raise HostError(
            f"the pipes of the guest's ports in {run_dir} cannot be made", option="run_dir", answer=str(error)
        ) from error


def is_pipe(name: str) -> bool:
    """Is it the name of one of these pipes?"""
    return name in {channel_pipes(number) + ending for number in range(CHANNELS) for ending in ENDINGS}
