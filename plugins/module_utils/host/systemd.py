# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether systemd supervises a VMM, in a unit of its own.

The unit is a scope (systemd.scope(5)): the task starts the VMM, with inherited descriptors, in a cgroup of its own. The VMM outlives the ssh session
and the task, can have limits, and appears in `systemctl status`.
"""

from __future__ import annotations

import os
import shutil

from ..errors import HostError
from .users import User

#: This directory exists if systemd is the host's init system (sd_booted(3)).
BOOTED = "/run/systemd/system"


def has_systemd() -> bool:
    """Whether systemd is the host's init system and the task may create units."""
    return os.path.isdir(BOOTED) and os.geteuid() == 0 and shutil.which("systemd-run") is not None


def resolve(supervisor: str) -> str:
    """The supervisor for a value of the option `supervisor`: systemd or none.

    :raises HostError: systemd is requested and cannot be used on this host
    """
    if supervisor in ("", "auto"):
        return "systemd" if has_systemd() else "none"
    if supervisor == "systemd" and not has_systemd():
        raise HostError(
            "systemd must be the host's init system and the task must run as root",
            option="supervisor",
            wanted=supervisor,
            fix="Set supervisor=none: the VMM is then a process without a unit and without limits.",
        )
    return supervisor


def user_command(user: User | None) -> list[str]:
    """The command that changes the user within the unit. The options `--uid` and `--gid` of systemd-run need a name on the host.

    :raises HostError: setpriv is not installed
    """
    if user is None:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise HostError(
            "setpriv must be installed to run a VMM as another user under systemd",
            option="supervisor",
            fix="Install util-linux.",
        )
    return [setpriv, f"--reuid={user.uid}", f"--regid={user.gid}", "--keep-groups", "--"]


def unit_quoted(text: str) -> str:
    """A text escaped for double quotes in a unit file (systemd.service(5), systemd.syntax(7))."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
