# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One acrn-dm on the host: its process, its files, and what acrnctl says of its VM. All that a look at it takes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from typing import Any

from ...errors import HostError, VmmError
from ...host.processes import ProcessIdentity, command_lines, identify, send_signal, tail, wait_gone, why_gone
from ...host.sockets import is_socket
from ...host.turns import without_turn
from ...untrusted.answers import Anything, checked, printable, shape_of
from ..base import Context, Observed
from ..common.vmm_process import VmmProcess

CONSOLE_SOCKET, CONSOLE_LOG = "console.sock", "console.log"
#: Seconds for one call of acrnctl.
CTL_SECONDS = 10.0
#: Seconds that SIGKILL gets, and SIGINT where the guest is not asked.
STEP_SECONDS = 5.0
#: acrnctl's words for a VM that runs: one it knows the script of, and one it does not.
RUNNING = ("started", "untracked")
DEFAULT_CTL = "/usr/bin/acrnctl"


@dataclasses.dataclass
class AcrnState:
    """The driver's persistent state.

    :param version: of the acrn-dm that the VM was started with, or will be
    :param name: what ACRN calls the VM
    :param ctl: the acrnctl to ask
    :param process: the acrn-dm that was started, None before and after
    :param launching: an acrn-dm may run that `process` does not name yet
    :param slots: slots of the placeholder drives
    :param placeholders: the device in each of these slots; empty for none
    :param devices: ids of the user's devices that it was started with
    :param taps: interfaces that were made for it
    :param sockets: further sockets on the host that are its own
    """

    uuid: str = ""
    version: list[int] = dataclasses.field(default_factory=list)
    name: str = ""
    ctl: str = DEFAULT_CTL
    process: ProcessIdentity | None = None
    launching: bool = False
    vcpus: int = 0
    memory_mb: int = 0
    slots: list[int] = dataclasses.field(default_factory=list)
    placeholders: list[str] = dataclasses.field(default_factory=list)
    devices: list[str] = dataclasses.field(default_factory=list)
    taps: list[str] = dataclasses.field(default_factory=list)
    sockets: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> AcrnState:
        """The state from its JSON value; what a later version added is left out."""
        value = checked(shape_of(cls, process=Anything()), value, "the recorded state of ACRN")
        state = cls(**value)
        state.process = ProcessIdentity.from_dict(value.get("process"))
        return state


class Vmm(VmmProcess):
    """The acrn-dm of one sandbox.

    :param context: the sandbox's directories
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.state = AcrnState()

    @property
    def console(self) -> str:
        """The console's socket."""
        return self.context.run_path(CONSOLE_SOCKET)

    @property
    def log(self) -> str:
        """acrn-dm's standard output and error, which take the guest's first serial port too."""
        return self.context.run_path(CONSOLE_LOG)

    def process(self) -> ProcessIdentity | None:
        """The acrn-dm of this sandbox, if one runs: the one remembered, or one that was started and not yet written down."""
        if self.state.process is not None and self.state.process.is_alive():
            return self.state.process
        if self.state.launching:
            for pid, words in command_lines():
                found = identify(pid) if "-s" in words and any(f"={self.console}" in word for word in words) else None
                if found is not None and pid != os.getpid():
                    self.state.process = found
                    return found
        return None

    def control(self, *words: str) -> tuple[int, str]:
        """Run acrnctl; returns its exit code and its output.

        :raises VmmError: it cannot be run, does not end in time, or writes more than 64 KiB
        """
        from ...host.programs import output_of

        found = output_of([self.state.ctl, *words], CTL_SECONDS)
        if found.code is None or found.problem:
            raise VmmError("acrnctl could not be run", wanted=" ".join(words), answer=printable(found.problem))
        return found.code, found.text

    def status(self) -> str:
        """acrnctl's word for the VM's state; empty when it knows no such VM, or when its manager is down, which it does not tell apart.

        :raises VmmError: it cannot be asked, or its answer is not a list of VMs
        """
        from .command_line import vm_states

        return vm_states(self.control("list")[1]).get(self.state.name, "")

    def observe(self) -> Observed:
        """What is true now. How many vCPUs and how much memory a VM has, ACRN does not tell; what it was started with counts."""
        process, state = self.process(), self.state
        if process is None:
            return Observed(leftovers=self.leftovers(), reason=self.why_off())
        try:
            status = self.status()
        except VmmError as error:
            return Observed("unresponsive", pid=process.pid, reason=str(error))
        if status not in RUNNING:
            words = f"acrnctl says {status}" if status else "acrnctl knows no such VM"
            return Observed("failed", status, process.pid, reason=f"acrn-dm runs, and {words}")
        plugged = sorted({*state.devices, *filter(None, state.placeholders)})
        return Observed("running", status, process.pid, state.vcpus, memory_mb=state.memory_mb, devices=plugged)

    def why_off(self) -> str:
        """What is known of the end of a VM that was not stopped."""
        return why_gone("acrn-dm", self.state.process, tail(self.log, 3))

    def leftovers(self) -> list[str]:
        """What a VM that is gone has left on the host."""
        taps = [f"/sys/class/net/{tap}" for tap in self.state.taps]
        # The console's is in the run directory; the others may be where the user says, and something else by now.
        sockets = [path for path in self.state.sockets if is_socket(path)]
        return [path for path in (self.console, *taps) if os.path.lexists(path)] + sockets

    def stop(self, timeout: float, force: bool) -> None:
        """End the VM: SIGINT, which has acrn-dm ask its guest, then SIGKILL; then remove what it leaves."""
        process = self.process()
        if process is not None and send_signal(process, signal.SIGINT):
            with without_turn():
                wait_gone(process, STEP_SECONDS if force else timeout)
        self.kill()

    def adopt(self) -> None:
        """Look for an acrn-dm of this sandbox by its command line."""
        self.state.launching = True

    def kill(self) -> None:
        """End acrn-dm and remove everything that was made for it.

        :raises VmmError: it does not end
        """
        process, state = self.process(), self.state
        if process is not None:
            send_signal(process, signal.SIGKILL)
            if not wait_gone(process, STEP_SECONDS):
                raise VmmError(f"acrn-dm (pid {process.pid}) does not end, not even by SIGKILL", log=self.log)
        if state.taps:
            from ...host.network import remove_tap

            for tap in state.taps:
                remove_tap(tap)
        for path in self.leftovers():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        state.process, state.launching = None, False
        state.taps, state.sockets, state.devices, state.slots, state.placeholders = [], [], [], [], []


def check_host(devices: tuple[str, ...]) -> None:
    """Refuse a host that does not run on ACRN.

    :param devices: of the Service VM's driver, of which one has to be there
    :raises HostError: none is
    """
    if not any(os.path.exists(device) for device in devices):
        raise HostError(
            f"this host does not run on ACRN: there is no {' and no '.join(devices)}",
            option="hypervisor",
            wanted="acrn",
            fix="Boot the ACRN hypervisor with this host as its Service VM (driver HSM, or VHM before 2.3).",
        )
