# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Autostart: a systemd service per sandbox that starts it after a reboot, and the program that the service runs.

The program is this collection's own engine in one file that Python can run (zipapp), so nothing of Ansible is needed at boot. Each service
names the version of the program that it was created with. An upgrade of the collection changes a service only with the next task about its sandbox.
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
from ..host.systemd import unit_quoted as _unit_quoted
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
{order}
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
    """The service of one sandbox, as it should be on this host.

    :param network: the unit of the sandbox's network, which starts before it; empty for a sandbox without a network of the host
    """

    layout: SandboxLayout
    network: str = ""

    @property
    def name(self) -> str:
        """The name of the unit."""
        return f"{unit_stem(self.layout)}.service"

    @property
    def path(self) -> str:
        """The path of the unit's file."""
        return os.path.join(UNIT_DIRECTORY, self.name)

    @property
    def link(self) -> str:
        """The path of the symbolic link that makes systemd start the unit at boot."""
        return os.path.join(UNIT_DIRECTORY, f"{WANTED_BY}.wants", self.name)

    def text(self, program: str) -> str:
        """The content of the unit's file, for a program at this path."""
        words = [self.layout.id, self.layout.state_root, self.layout.run_root]
        return _UNIT.format(
            version=COLLECTION_VERSION,
            id=self.layout.id,
            order=f"Wants={self.network}\nAfter=network.target {self.network}"
            if self.network
            else "After=network.target",
            state_root=_unit_quoted(self.layout.state_root),
            program=f'"{_unit_quoted(sys.executable)}" -I "{_unit_quoted(program)}"',
            arguments=" ".join(f'"{_unit_quoted(word)}"' for word in words),
            wanted_by=WANTED_BY,
        )

    def exists(self) -> bool:
        """Whether any version of the service is installed."""
        return os.path.lexists(self.path) or os.path.lexists(self.link)

    def in_place(self) -> bool:
        """Whether the service is enabled, and its file is what this version of the collection writes."""
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
        """Install and enable the service. The sandbox is not touched.

        :raises HostError: a file cannot be written, or systemd refuses
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
        # Only an active service shuts the guest down before the host shuts down. Its start waits until this task releases the lock.
        _systemctl("start", "--no-block", self.name)

    def disable(self) -> None:
        """Remove the service. The sandbox is not touched.

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
            # Without its file the unit has no ExecStop, so stopping it does not stop the guest.
            _systemctl("daemon-reload")
            with contextlib.suppress(HostError):
                _systemctl("stop", self.name)


def check_possible(sandbox: str) -> None:
    """Refuse autostart on hosts where nothing would start the sandbox.

    :raises HostError: systemd must be the host's init system and the task must run as root
    """
    if not has_systemd():
        raise HostError(
            "for autostart, systemd must be the host's init system and the task must run as root",
            sandbox=sandbox,
            option="autostart",
            wanted=True,
            fix="Omit autostart, and run the task again after each reboot.",
        )


# --- the program -----------------------------------------------------------------------------------------------------


def _drop_unused_programs(state_root: str) -> None:
    """Remove versions of the program that no service uses."""
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
    """Replace a file durably if its content differs. Its directory is created."""
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        if stream.read() == data:
            return
    ensure_directory(os.path.dirname(path))
    replace_file(path, data)


def _systemctl(*words: str) -> None:
    try:
        run(["systemctl", "--no-ask-password", *words], SYSTEMD_SECONDS).raise_on_failure()
    except HostError as problem:
        raise HostError(f"'systemctl {' '.join(words)}' failed", option="autostart", answer=problem.answer) from problem
