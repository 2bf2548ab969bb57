# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMM logs in systemd's journal."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess

from ..host.systemd import resolve
from ..hypervisors.common.scope import SLICE
from ..options.config import HypervisorConfig
from ..records.layout import SandboxLayout, unit_stem
from ..untrusted.files import Directory


def log_command(layout: SandboxLayout, pid: int, log: str, offset: int) -> list[str]:
    """What copies a VMM's log into the journal for as long as the VMM's unit is there.

    The log stays a file. What is copied counts as the words of the VMM's unit (systemd.journal-fields(7), OBJECT_*),
    so `journalctl -u kata-sandbox-ID.scope` has them.

    :param log: a path that leads to the log and to no other file, see `log_of`
    :param offset: where this VMM's words begin in the log, in bytes
    """
    stem = unit_stem(layout)
    return [
        shutil.which("systemd-run") or "systemd-run",
        "--quiet",
        "--collect",
        "--no-block",
        "--no-ask-password",
        # By its process: the one before may still be going away.
        f"--unit={stem}:log-{pid}.service",
        f"--slice={SLICE}",
        f"--description=Log of sandbox {layout.id}",
        f"--property=BindsTo={stem}.scope",
        f"--property=After={stem}.scope",
        f"--property=LogExtraFields=OBJECT_SYSTEMD_UNIT={stem}.scope",
        f"--property=SyslogIdentifier={stem}",
        # What the VMM said last is read before the unit that it ran in takes this one along.
        f"--property=ExecStop={shutil.which('sleep') or '/bin/sleep'} {1.2 if log.startswith('/proc/') else 0.2}",
        shutil.which("tail") or "/usr/bin/tail",
        f"--bytes=+{offset + 1}",
        "--follow=descriptor",
        log,
    ]


def log_of(pid: int, log: str) -> str:
    """A path that leads to a VMM's log and to no other file, empty where the VMM has it not open.

    A log may lie where the VMM's user can exchange names. Then the path leads through the VMM's own descriptor: what the VMM has open is at most
    what it may read anyway, so nothing else of the host's gets into the journal. tail(1) does not notice at once what is written there, but looks
    every second, so such a path is only taken where it has to be.
    """
    try:
        with Directory.open(os.path.dirname(log)) as directory:
            wanted = directory.status(os.path.basename(log))
            place = os.fstat(directory.descriptor)
        closed = place.st_uid == os.geteuid() and not place.st_mode & 0o022
        if wanted is None or not stat.S_ISREG(wanted.st_mode):
            return ""
        for name in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{name}"
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), wanted):
                    return log if closed else path
    except OSError:
        pass
    return ""


def follow_log(layout: SandboxLayout, config: HypervisorConfig, pid: int | None, log: str, offset: int) -> None:
    """Have a VMM's log in the journal too, where systemd looks after it. Nothing waits for that, and nothing fails by it."""
    if not log or not pid or resolve(config.supervisor) != "systemd":
        return
    path = log_of(pid, log)
    if path:
        subprocess.Popen(
            log_command(layout, pid, path, offset),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
