# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who looks after a VMM: systemd, which gives it a unit of its own, or nobody.

The unit is a scope (systemd.scope(5)): a VMM that was started by us, with the descriptors that it inherits from us, in a cgroup of its own. It
outlives the ssh session and the task, can be limited, and shows in `systemctl status`.
"""

from __future__ import annotations

import os
import shutil

from ..errors import HostError
from .users import User

#: The directory that is there when systemd runs the host (sd_booted(3)).
BOOTED = "/run/systemd/system"


def has_systemd() -> bool:
    """Whether systemd runs this host, and lets us make units."""
    return os.path.isdir(BOOTED) and os.geteuid() == 0 and shutil.which("systemd-run") is not None


def resolve(supervisor: str) -> str:
    """The supervisor that a wish comes to: systemd or none.

    :raises HostError: systemd is asked for and does not run this host
    """
    if supervisor in ("", "auto"):
        return "systemd" if has_systemd() else "none"
    if supervisor == "systemd" and not has_systemd():
        raise HostError(
            "systemd must be the host's init system and the task must run as root",
            option="supervisor",
            wanted=supervisor,
            fix="Set supervisor=none: the VMM is then a process of its own that nobody limits.",
        )
    return supervisor


def _user_command(user: User | None) -> list[str]:
    """What changes the user within the unit. systemd-run itself (`--uid`, `--gid`) takes no numbers that the host has no names for.

    :raises HostError: this host has no setpriv
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
