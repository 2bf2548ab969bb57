# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd scope that a VMM runs in."""

from __future__ import annotations

import os
import re
import shutil

from ...errors import ConfigError
from ...host.systemd import resolve, user_command
from ...host.users import User
from ...options.config import HypervisorConfig
from ...records.layout import SandboxLayout, unit_stem
from ..base import Context

#: All VMMs' units are below this one, so that a host can limit them together.
SLICE = "kata.slice"


_PROPERTY = re.compile(r"[A-Za-z][A-Za-z0-9]*=[^\n]*")


def layout_of(context: Context) -> SandboxLayout:
    """The layout whose directories a driver was given."""
    return SandboxLayout(
        context.sandbox_id, os.path.dirname(os.path.dirname(context.state_dir)), os.path.dirname(context.run_dir)
    )


def scope_command(context: Context, config: HypervisorConfig, part: str = "", user: User | None = None) -> list[str]:
    """The command before a VMM's command line that makes it run in a unit of its own; empty without a supervisor.

    The program takes the place of this command in the same process, and inherits its descriptors (systemd-run(1), --scope).

    :param part: names a helper of the VMM, such as one share's virtiofsd
    :param user: the user that the program runs as, None for our own; its groups must be set already
    :raises HostError: systemd is requested and is not the host's init system, or setpriv is missing
    :raises ConfigError: a property is not NAME=VALUE
    """
    if resolve(config.supervisor) == "none":
        return []
    stem = unit_stem(layout_of(context))
    unit = stem + (f":{part}" if part else "")
    if config.boot_to_be_template:
        unit += ":template"  # A sandbox may have the same name.
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
    # A helper gets no limits: they apply to the VMM.
    if not part:
        check_properties(config)
        command += [f"--property={limit.key}={limit.value}" for limit in config.unit_properties]
    return [*command, "--", *user_command(user)]


def check_properties(config: HypervisorConfig) -> None:
    """Refuse texts that cannot be properties of a unit, with or without a supervisor.

    :raises ConfigError: it is not NAME=VALUE
    """
    for limit in config.unit_properties:
        if not limit.value or not _PROPERTY.fullmatch(f"{limit.key}={limit.value}"):
            raise ConfigError(
                "a property of a unit must be NAME=VALUE",
                option="unit_properties",
                wanted=f"{limit.key}={limit.value}".rstrip("="),
            )
