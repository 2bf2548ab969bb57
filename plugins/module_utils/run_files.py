# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run directory of a sandbox and the logs in it."""

from __future__ import annotations

import contextlib
import os

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError


def make_run_dir(path: str, option: str = "run_dir") -> None:
    """The directory for sockets and logs, the owner's alone.

    :param option: the task's option that says where
    :raises HostError: it cannot be made, or somebody else owns it
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        owner = os.lstat(path)
    except OSError as error:
        raise HostError(f"the directory {path} cannot be made", option=option, answer=str(error)) from error
    if owner.st_uid != os.geteuid() or not os.path.isdir(path) or os.path.islink(path):
        raise HostError(f"the directory {path} belongs to somebody else or is a link", option=option)


def keep_previous(path: str) -> None:
    """Put the last run's log aside, so that a new one starts empty."""
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, path + ".old")
