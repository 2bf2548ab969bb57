# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy the logs of VMMs into systemd's journal."""

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
    """The command that copies a VMM's log into the journal for as long as the VMM's unit exists.

    The log stays a file. The journal attributes the copied lines to the VMM's unit (systemd.journal-fields(7), OBJECT_*),
    so `journalctl -u kata-sandbox-ID.scope` shows them.

    :param log: a path that cannot lead to another file, see `log_of`
    :param offset: where the output of this VMM begins in the log, in bytes
    """
    stem = unit_stem(layout)
    return [
        shutil.which("systemd-run") or "systemd-run",
        "--quiet",
        "--collect",
        "--no-block",
        "--no-ask-password",
        # The name contains the pid, since the unit of the previous VMM may still be stopping.
        f"--unit={stem}:log-{pid}.service",
        f"--slice={SLICE}",
        f"--description=Log of sandbox {layout.id}",
        f"--property=BindsTo={stem}.scope",
        f"--property=After={stem}.scope",
        f"--property=LogExtraFields=OBJECT_SYSTEMD_UNIT={stem}.scope",
        f"--property=SyslogIdentifier={stem}",
        # The delay lets tail read the VMM's last output before this unit stops together with the VMM's unit.
        f"--property=ExecStop={shutil.which('sleep') or '/bin/sleep'} {1.2 if log.startswith('/proc/') else 0.2}",
        shutil.which("tail") or "/usr/bin/tail",
        f"--bytes=+{offset + 1}",
        "--follow=descriptor",
        log,
    ]


def log_of(pid: int, log: str) -> str:
    """A path that leads to a VMM's log and cannot lead to another file. Empty if the VMM does not have the log open.

    A log may lie in a directory where the VMM's user can exchange files. Then the path leads through the VMM's own descriptor: the VMM can only
    have open what it may read anyway, so no other file of the host gets into the journal. tail(1) polls such a path once a second and does not
    use inotify, so it is used only in this case.
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
    """Start copying a VMM's log into the journal if systemd supervises the VMM. It does not wait, and errors are ignored."""
    if not log or not pid or resolve(config.supervisor) != "systemd":
        return
    path = log_of(pid, log)
    if path:
        subprocess.Popen(  # pylint: disable=ansible-bad-function  # run_command needs a module, and waits for the end
            log_command(layout, pid, path, offset),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
