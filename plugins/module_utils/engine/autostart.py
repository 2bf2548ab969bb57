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
import re
import shutil
import sys
from typing import Any, Iterator

from ..delivery.engine_copy import archive_of, digest_of
from ..errors import HostError, HypervisorError
from ..host.atomic_files import ensure_directory, locked, make_directories, replace_file, sync
from ..host.programs import run
from ..host.systemd import has_systemd, unit_stem
from ..options.spec import SandboxSpec
from ..records.layout import SandboxLayout
from ..records.store import COLLECTION_VERSION
from .sandbox import Sandbox, converge

PACKAGE = "ansible_collections.kata.hypervisor.plugins.module_utils"
UNIT_DIRECTORY = "/etc/systemd/system"
WANTED_BY = "multi-user.target"
PROGRAM = "kata-hypervisor.pyz"

#: Seconds that a task which works on the sandbox is waited for at boot, and that a guest gets when the host shuts down.
BOOT_LOCK_SECONDS = 300.0
SHUTDOWN_SECONDS = 30.0
#: Seconds to wait for another task that installs or removes the program.
LIBRARY_SECONDS = 60.0
#: Seconds that systemd gets to take what it is told.
SYSTEMD_SECONDS = 120.0

_IMPORT = re.compile(rf"^\s*from ({re.escape(PACKAGE)}[\w.]*) import (?:\(([^)]*)\)|([^\n]*))", re.MULTILINE)
_MAIN = f"from {PACKAGE}.autostart import main\n\nmain()\n"

_UNIT = """\
# Made by the Ansible collection kata.hypervisor {version}; a task about this sandbox makes it anew.
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
                "its service cannot be made", option="autostart", wanted=True, answer=str(problem)
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

    :raises HostError: systemd does not run this host, or the task is not root's
    """
    if not has_systemd():
        raise HostError(
            "nothing would bring it back after a reboot: systemd does not run this host, or the task is not root's",
            sandbox=sandbox,
            option="autostart",
            wanted=True,
            fix="Leave autostart out, and run the task again after each reboot.",
        )


# --- the program -----------------------------------------------------------------------------------------------------


def sources() -> dict[str, bytes]:
    """Every file of this collection that the program needs, by its path below module_utils. A task has all of them with it."""
    found: dict[str, bytes] = {}
    waiting = [f"{PACKAGE}.autostart"]
    asked = set()
    while waiting:
        name = waiting.pop()
        # The package itself holds nothing; a task's payload has an empty file for it, the host's copy of the engine has none.
        if name in asked or not name.startswith(PACKAGE + "."):
            continue
        asked.add(name)
        waiting.append(name.rpartition(".")[0])
        below = name[len(PACKAGE) + 1 :].replace(".", "/")
        for path in (f"{below}.py", f"{below}/__init__.py"):
            try:
                source = _read_beside(path)
            except OSError:
                continue  # A name within a module, not a module.
            found[path] = source
            for base, many, few in _IMPORT.findall(source.decode()):
                waiting += [base, *(f"{base}.{part}" for part in re.findall(r"\w+", many or few))]
            break
    return found


def _read_beside(path: str) -> bytes:
    """A file of the directory that this module is in, which a task has within an archive."""
    loader: Any = sys.modules[__name__].__loader__
    content: bytes = loader.get_data(os.path.join(os.path.dirname(__file__), path))
    return content


def program_bytes() -> bytes:
    """The program: the same sources give the same bytes."""
    folder = PACKAGE.replace(".", "/")
    files = {f"{folder}/{path}": source for path, source in sources().items()}
    parts = PACKAGE.split(".")
    for depth in range(1, len(parts) + 1):
        files.setdefault("/".join(parts[:depth]) + "/__init__.py", b"")
    files["__main__.py"] = _MAIN.encode()
    return archive_of(files)


def program_path(state_root: str) -> str:
    """Where this version of the program lies on a host."""
    return os.path.join(state_root, "lib", f"{COLLECTION_VERSION}-{digest_of(sources())[:12]}", PROGRAM)


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
        run(["systemctl", "--no-ask-password", *words], SYSTEMD_SECONDS).checked()
    except HostError as problem:
        raise HostError(
            f"systemd did not take '{' '.join(words)}'", option="autostart", answer=problem.answer
        ) from problem


# --- what the service runs -------------------------------------------------------------------------------------------


def bring_back(spec: SandboxSpec) -> list[str]:
    """Bring a sandbox to the state that was declared last; what was done."""
    actions: list[str] = converge(spec)["actions"]
    return actions


def shut_down(spec: SandboxSpec) -> list[str]:
    """End a sandbox's VM, its guest asked first, and leave on record that it should run; what was done."""
    sandbox = Sandbox(spec)
    with sandbox.store.lock(spec.lock_timeout):
        try:
            sandbox.load()
            record, driver = sandbox.record, sandbox.driver
            if record is None or driver is None or not record.effective().get("autostart"):
                return []
            if sandbox.observed.power not in ("running", "paused"):
                return []
            driver.stop_sandbox(spec.stop_timeout, force=sandbox.observed.power == "paused")
            return ["stop"]
        finally:
            sandbox.disconnect()


def main() -> None:
    """The program: start or stop, an id, the state directory, the run directory."""
    if len(sys.argv) != 5 or sys.argv[1] not in ("start", "stop"):
        raise SystemExit(f"usage: {PROGRAM} start|stop ID STATE_DIR RUN_DIR")
    operation, sandbox, state_root, run_root = sys.argv[1:]
    try:
        layout = SandboxLayout(sandbox, state_root, run_root)
        if not os.path.exists(layout.record_path):
            return
        spec = SandboxSpec(
            sandbox,
            state_dir=state_root,
            run_dir=run_root,
            lock_timeout=BOOT_LOCK_SECONDS if operation == "start" else SHUTDOWN_SECONDS,
            stop_timeout=SHUTDOWN_SECONDS,
        )
        actions = (bring_back if operation == "start" else shut_down)(spec)
    except HypervisorError as problem:
        raise SystemExit(str(problem)) from problem
    sys.stdout.write(f"sandbox {sandbox}: {', '.join(actions) or 'as it should be'}\n")
