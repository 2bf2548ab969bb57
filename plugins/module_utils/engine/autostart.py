# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes that come back after a reboot: a systemd service for each, and the program that it runs.

The program is this collection's own engine in one file that Python can run (zipapp), so nothing of Ansible is needed at boot. Each service
names the version that it was made with; another version of the collection changes nothing until a task is about that sandbox.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sys
from typing import Iterator

from ..delivery.boot_program import PROGRAM, program_bytes, program_path
from ..errors import HostError
from ..host.atomic_files import ensure_directory, locked, make_directories, replace_file, sync
from ..host.programs import run
from ..host.systemd import has_systemd
from ..records.layout import SandboxLayout, unit_stem
from ..records.record import COLLECTION_VERSION

UNIT_DIRECTORY = "/etc/systemd/system"
WANTED_BY = "multi-user.target"

#: Seconds to wait for another task that installs or removes the program.
LIBRARY_SECONDS = 60.0
#: Seconds to wait for systemctl.
SYSTEMD_SECONDS = 120.0


_UNIT = """\
# Made by the Ansible collection kata.hypervisor {version}; a task about this sandbox writes it again.
[Unit]
Description=Sandbox {id}
After=network.target
RequiresMountsFor="{state_root}"

[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=process
ExecStart={program} start {arguments}
ExecStop={program} stop {arguments}
TimeoutStartSec=900
TimeoutStopSec=90

[Install]
WantedBy={wanted_by}
"""


@dataclasses.dataclass(frozen=True)
class Service:
    """The service of one sandbox, as it should be on this host."""

    layout: SandboxLayout

    @property
    def name(self) -> str:
        """The unit's name."""
        return f"{unit_stem(self.layout)}.service"

    @property
    def path(self) -> str:
        """The unit's file."""
        return os.path.join(UNIT_DIRECTORY, self.name)

    @property
    def link(self) -> str:
        """What makes systemd start it at boot."""
        return os.path.join(UNIT_DIRECTORY, f"{WANTED_BY}.wants", self.name)

    def text(self, program: str) -> str:
        """The unit's file, for a program at this path."""
        words = [self.layout.id, self.layout.state_root, self.layout.run_root]
        return _UNIT.format(
            version=COLLECTION_VERSION,
            id=self.layout.id,
            state_root=_unit_quoted(self.layout.state_root),
            program=f'"{_unit_quoted(sys.executable)}" -I "{_unit_quoted(program)}"',
            arguments=" ".join(f'"{_unit_quoted(word)}"' for word in words),
            wanted_by=WANTED_BY,
        )

    def exists(self) -> bool:
        """Whether any version of it is there."""
        return os.path.lexists(self.path) or os.path.lexists(self.link)

    def in_place(self) -> bool:
        """Whether it is there just as this version of the collection makes it, and switched on."""
        program = program_path(self.layout.state_root)
        try:
            with open(self.path, encoding="utf-8") as stream:
                return (
                    stream.read() == self.text(program)
                    and os.path.realpath(self.link) == self.path
                    and os.path.isfile(program)
                )
        except OSError:
            return False

    def enable(self) -> None:
        """Have it, switched on. The sandbox is not touched.

        :raises HostError: a file cannot be written, or systemd says no
        """
        check_possible(self.layout.id)
        try:
            with _library_lock(self.layout.state_root):
                program = program_path(self.layout.state_root)
                _write(program, program_bytes())
                _write(self.path, self.text(program).encode())
                make_directories(os.path.dirname(self.link))
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.link)
                os.symlink(self.path, self.link)
                sync(os.path.dirname(self.link))
                _drop_unused_programs(self.layout.state_root)
        except OSError as problem:
            raise HostError(
                "its service cannot be created", option="autostart", wanted=True, answer=str(problem)
            ) from problem
        _systemctl("daemon-reload")
        # An active service is what shuts the guest down before the host does. It waits until this task lets the sandbox go.
        _systemctl("start", "--no-block", self.name)

    def disable(self) -> None:
        """Have none. The sandbox is not touched.

        :raises HostError: a file cannot be removed
        """
        try:
            for path in (self.link, self.path):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            with _library_lock(self.layout.state_root):
                _drop_unused_programs(self.layout.state_root)
        except OSError as problem:
            raise HostError(
                "its service cannot be removed", option="autostart", wanted=False, answer=str(problem)
            ) from problem
        if has_systemd():
            # Without its file it has nothing to do when it stops, so the guest runs on.
            _systemctl("daemon-reload")
            with contextlib.suppress(HostError):
                _systemctl("stop", self.name)


def check_possible(sandbox: str) -> None:
    """Refuse autostart where nothing would start it.

    :raises HostError: systemd must be the host's init system and the task must run as root
    """
    if not has_systemd():
        raise HostError(
            "autostart needs systemd as the host's init system and a task that runs as root",
            sandbox=sandbox,
            option="autostart",
            wanted=True,
            fix="Leave autostart out, and run the task again after each reboot.",
        )


# --- the program -----------------------------------------------------------------------------------------------------


def _drop_unused_programs(state_root: str) -> None:
    """Remove the versions that no service names any more."""
    library = os.path.join(state_root, "lib")
    units = ""
    for name in os.listdir(UNIT_DIRECTORY):
        if name.startswith("kata-sandbox-") and name.endswith(".service"):
            with contextlib.suppress(OSError), open(os.path.join(UNIT_DIRECTORY, name), encoding="utf-8") as stream:
                units += stream.read()
    for version in os.listdir(library):
        if os.path.isfile(os.path.join(library, version, PROGRAM)) and f"/{version}/{PROGRAM}" not in units:
            shutil.rmtree(os.path.join(library, version))


@contextlib.contextmanager
def _library_lock(state_root: str) -> Iterator[None]:
    library = os.path.join(state_root, "lib")
    ensure_directory(library)
    with locked(os.path.join(library, ".lock"), LIBRARY_SECONDS, "the programs of autostart", "autostart"):
        yield


def _write(path: str, data: bytes) -> None:
    """Replace a file durably where it differs; its directory is created."""
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        if stream.read() == data:
            return
    ensure_directory(os.path.dirname(path))
    replace_file(path, data)


def _unit_quoted(text: str) -> str:
    """A text between double quotes of a unit file (systemd.service(5), systemd.syntax(7))."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")


def _systemctl(*words: str) -> None:
    try:
        run(["systemctl", "--no-ask-password", *words], SYSTEMD_SECONDS).raise_on_failure()
    except HostError as problem:
        raise HostError(
            f"systemd did not take '{' '.join(words)}'", option="autostart", answer=problem.answer
        ) from problem
