# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who looks after a VMM: systemd, which gives it a unit of its own, or nobody.

The unit is a scope (systemd.scope(5)): a VMM that was started by us, with the descriptors that it inherits from us, in a cgroup of its own. It
outlives the ssh session and the task, can be limited, and shows in `systemctl status`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import subprocess

from ..errors import ConfigError, HostError
from ..hypervisors.base import Context
from ..options.config import HypervisorConfig
from ..records.layout import SandboxLayout
from ..untrusted.files import Directory
from .users import User

#: All VMMs' units are below this one, so that a host can limit them together.
SLICE = "kata.slice"
UNIT_PREFIX = "kata-sandbox-"

#: The directory that is there when systemd runs the host (sd_booted(3)).
BOOTED = "/run/systemd/system"

_PROPERTY = re.compile(r"[A-Za-z][A-Za-z0-9]*=[^\n]*")


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
            "systemd does not run this host, or the task is not root's",
            option="supervisor",
            wanted=supervisor,
            fix="Set supervisor=none: the VMM is then a process of its own that nobody limits.",
        )
    return supervisor


def unit_stem(layout: SandboxLayout) -> str:
    """A sandbox's units' name without its ending. Sandboxes of other directories than the usual ones do not share it."""
    return UNIT_PREFIX + layout.host_name


def layout_of(context: Context) -> SandboxLayout:
    """The layout whose directories a driver was given."""
    return SandboxLayout(
        context.sandbox_id, os.path.dirname(os.path.dirname(context.state_dir)), os.path.dirname(context.run_dir)
    )


def scope_command(context: Context, config: HypervisorConfig, part: str = "", user: User | None = None) -> list[str]:
    """What stands before a VMM's command line so that it runs in a unit of its own; empty without a supervisor.

    The program takes the place of this command in the same process, and inherits its descriptors (systemd-run(1), --scope).

    :param part: names a helper of the VMM, such as one share's virtiofsd
    :param user: the user that the program runs as, None for our own; its groups must be set already
    :raises HostError: systemd is asked for and does not run this host, or nothing can change the user
    :raises ConfigError: a limit is none
    """
    if resolve(config.supervisor) == "none":
        return []
    stem = unit_stem(layout_of(context))
    unit = stem + (f":{part}" if part else "")
    if config.boot_to_be_template:
        unit += ":template"  # There may be a sandbox of its name.
    command = [
        shutil.which("systemd-run") or "systemd-run",
        "--scope",
        "--quiet",
        "--collect",
        "--no-ask-password",
        f"--unit={unit}.scope",
        f"--slice={SLICE}",
        # The service shuts the guest down before systemd ends the VMM. It must not name the scope itself: that would keep the unit.
        f"--property=Before={stem}.service",
        f"--description=Sandbox {context.sandbox_id}" + (f" ({part})" if part else ""),
    ]
    # A helper gets no limits: they are said of the VMM.
    if not part:
        check_properties(config)
        command += [f"--property={limit.key}={limit.value}" for limit in config.unit_properties]
    return [*command, "--", *_user_command(user)]


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


def check_properties(config: HypervisorConfig) -> None:
    """Refuse what cannot be a property of a unit, whether there is a supervisor here or not.

    :raises ConfigError: it is not NAME=VALUE
    """
    for limit in config.unit_properties:
        if not limit.value or not _PROPERTY.fullmatch(f"{limit.key}={limit.value}"):
            raise ConfigError(
                "a property of a unit must be NAME=VALUE",
                option="unit_properties",
                wanted=f"{limit.key}={limit.value}".rstrip("="),
            )


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
