# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One QEMU on the host: its process, its monitors, its files. What every operation needs, and all that a look at it takes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any, Iterator

from ...errors import StateError, VmmError
from ...guest.ways import PIPES, SOCKET, GuestWays, Way
from ...host.processes import (
    ProcessIdentity,
    command_line,
    command_lines,
    identify,
    lock_owner,
    owner_of,
    send_signal,
    tail,
    terminate,
    wait_gone,
    why_gone,
)
from ...host.sockets import is_socket, remove_socket
from ...host.turns import without_turn
from ...host.units import MIB
from ...untrusted.files import Directory
from ..base import Context, Observed
from ..common.vmm_process import VmmProcess
from . import channels, endings
from .names import (
    AGENT_PORT,
    AGENT_SOCKET,
    CONSOLE_LOG,
    CONTROL_SOCKET,
    DEVICE_PREFIX,
    OBSERVER_SOCKET,
    PIDFILE,
    VMM_LOG,
    channel_pipes,
    channel_port,
)
from .qmp import QmpClient, QmpConnectionError
from .state import QemuState

#: Seconds for one question to a VMM that is well, on a host that has much to do: one that does not answer counts as lost.
QMP_SECONDS = 15.0
#: Seconds in which a QEMU whose connection ended may end.
ENDING_SECONDS = 1.0
#: Seconds for all the questions of one look at it.
LOOK_SECONDS = 30.0
#: Seconds that quit, SIGTERM and SIGKILL get, each.
STEP_SECONDS = 5.0
EVENTS = endings.EVENTS
#: Where QEMU has the devices that have an id (QOM).
PERIPHERAL = "/machine/peripheral"
#: QEMU's words for the state of a VM (QMP, RunState) and ours.
POWER = {
    "running": "running",
    "paused": "paused",
    "prelaunch": "paused",
    "inmigrate": "paused",
    "suspended": "paused",
    "postmigrate": "paused",
    "finish-migrate": "paused",
    "save-vm": "paused",
    "restore-vm": "paused",
    "colo": "paused",
    # The disk is full: the guest goes on from here once there is space and it is resumed.
    "io-error": "paused",
}


class Vmm(VmmProcess):
    """The QEMU of one sandbox.

    :param context: the sandbox's directories
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.state = QemuState()
        self.control: QmpClient | None = None
        #: Whether an agent in the guest had its port open when we last looked.
        self.agent_connected = False

    @property
    def log(self) -> str:
        """QEMU's own log."""
        return self.context.run_path(VMM_LOG)

    def process(self) -> ProcessIdentity | None:
        """The QEMU of this sandbox, if one runs: the one remembered, or one that was started and not yet written down."""
        if self.state.process is not None and self.state.process.is_alive():
            return self.state.process
        found = self._unrecorded_process()
        if found is not None:
            self.state.process = found
        return found

    def _unrecorded_process(self) -> ProcessIdentity | None:
        """A QEMU of this sandbox that a task has started and was killed before it could write down.

        The pid file is written by QEMU, which may be anybody's by now, so it is a hint: a process is this QEMU by its program and its command line.
        """
        with contextlib.suppress(OSError), Directory.open(self.context.run_dir) as directory:
            found = self._checked_process(lock_owner(directory, PIDFILE))
            if found is not None:
                return found
        if self.state.launching:
            # Between its start and its pid file only the command line tells it.
            for pid, words in command_lines():
                found = self._checked_process(pid) if self._is_command_line(words) else None
                if found is not None:
                    return found
        return None

    def _checked_process(self, pid: int) -> ProcessIdentity | None:
        """The identity of a process if it is this sandbox's QEMU, None for any other."""
        found = identify(pid)
        if found is None or not self._is_command_line(command_line(pid)):
            return None
        # Records of earlier versions do not tell the program.
        return found if self.state.program in ("", found.executable) else None

    def _is_command_line(self, words: list[str]) -> bool:
        mine = ("-pidfile", self.context.run_path(PIDFILE)) in zip(words, words[1:])
        return mine and (not self.state.uuid or self.state.uuid in words)

    def agent_way(self) -> Way:
        """The port of the guest agent."""
        return Way(SOCKET, self.context.run_path(AGENT_SOCKET), AGENT_PORT)

    def guest_ways(self) -> GuestWays:
        """The ports that lead into this guest."""
        pipes = ((channel_pipes(number), channel_port(number)) for number in range(self.state.channels))
        return GuestWays(self.agent_way(), tuple(Way(PIPES, self.context.run_path(path), port) for path, port in pipes))

    def own_socket(self, device: str) -> str:
        """The path of the socket that was made for a device, or would be where the task names none."""
        return self.state.sockets.get(device) or self.context.run_path(f"port-{device}.sock")

    def why_off(self) -> str:
        return (self.ending().reason if self.state.process else "") or why_gone(
            "QEMU", self.state.process, tail(self.log, 3)
        )

    def ending(self) -> endings.Ending:
        """How the VM that is gone has ended."""
        return endings.ending(self.context.run_dir, CONSOLE_LOG)

    def leftovers(self) -> list[str]:
        made = {path for path in self.state.sockets.values() if is_socket(path)}
        with contextlib.suppress(OSError):
            for name in os.listdir(self.context.run_dir):
                if is_leftover(name):
                    made.add(self.context.run_path(name))
        return sorted(made)

    def remove_leftovers(self) -> None:
        for path in self.state.sockets.values():
            remove_socket(path)
        with contextlib.suppress(FileNotFoundError), Directory.open(self.context.run_dir) as directory:
            for name in directory.names():
                if is_leftover(name):
                    directory.remove(name)
        self.state.sockets = {}

    def end_daemons(self) -> None:
        """End the processes that serve devices; those that were started and not written down are known by their socket.

        virtiofsd runs as the task's user: nobody else's process is taken for one, whatever its command line.
        """
        prefix = os.path.join(self.context.run_dir, "fs-")
        for pid, words in command_lines() if self.state.launching else ():
            named = any(
                word.startswith(f"--socket-path={prefix}") or (word == "--socket-path" and after.startswith(prefix))
                for word, after in zip(words, [*words[1:], ""])
            )
            found = identify(pid) if named and owner_of(pid) == os.geteuid() else None
            if found is not None:
                self.state.daemons[f"pid-{pid}"] = found
        for daemon in self.state.daemons.values():
            terminate(daemon, STEP_SECONDS)
        self.state.daemons = {}

    def adopt(self) -> None:
        """Look for a QEMU of this sandbox, and for the daemons of its devices, by their command lines."""
        self.state.launching = True

    def kill(self) -> None:
        self.disconnect()
        process = self.process()
        if process is not None and terminate(process, STEP_SECONDS) == "stuck":
            raise VmmError(f"QEMU (pid {process.pid}) does not end, not even by SIGKILL", log=self.log)
        self._end_own_processes()
        self.end_daemons()
        self.state.process = None
        self.state.launching = False
        self.remove_leftovers()

    def _end_own_processes(self) -> None:
        """End what a QEMU with a uid of its own may have started: nobody else has processes of that uid."""
        try:
            # The group of the directory is that user's, and is there without a record too.
            own = os.lstat(self.context.run_dir).st_gid if os.geteuid() == 0 else 0
        except OSError:
            return
        from ...host.users import has_processes, is_own_uid, owners_of_processes

        if is_own_uid(own) and has_processes(own):
            for pid, uid in owners_of_processes().items():
                found = identify(pid) if uid == own else None
                if found is not None and send_signal(found, signal.SIGKILL):
                    wait_gone(found, STEP_SECONDS)
        self.state.uid = 0

    def powerdown(self, process: ProcessIdentity, timeout: float) -> bool:
        """Ask the guest to power off; True when the process has ended in time. A paused guest is resumed, or it could not obey."""
        deadline = time.monotonic() + timeout
        with contextlib.suppress(VmmError):
            qmp = self.qmp()
            status = qmp.execute("query-status").get("status")
            if POWER.get(str(status)) == "paused" and status != "prelaunch":
                qmp.execute("cont")
            elif status != "running":
                return False
            qmp.execute("system_powerdown")
            with without_turn():
                return wait_gone(process, max(0.0, deadline - time.monotonic()))
        return not process.is_alive()

    def quit(self, process: ProcessIdentity) -> None:
        with contextlib.suppress(VmmError):
            self.qmp().execute("quit")
            if wait_gone(process, STEP_SECONDS):
                return
        self.kill()

    def qmp(self) -> QmpClient:
        """The control connection, opened when first used and kept until `disconnect`."""
        if self.control is None:
            if self.process() is None:
                raise StateError("the VM does not run", answer=self.why_off(), log=self.log)
            self.control = QmpClient(self.context.run_path(CONTROL_SOCKET), QMP_SECONDS)
        return self.control

    @contextlib.contextmanager
    def observer(self) -> Iterator[QmpClient]:
        """A connection to look: the open one, else one of the observers' monitor, which a busy controller leaves free."""
        if self.control is not None:
            yield self.control
            return
        with QmpClient(self.context.run_path(OBSERVER_SOCKET), QMP_SECONDS, whole=LOOK_SECONDS) as qmp:
            yield qmp

    def set_running(self, running: bool) -> None:
        """cont or stop, and read back."""
        qmp = self.qmp()
        command, wanted = ("cont", "running") if running else ("stop", "paused")
        qmp.execute(command)
        status = ""
        deadline = time.monotonic() + QMP_SECONDS
        while time.monotonic() < deadline:
            status = str(qmp.execute("query-status").get("status"))
            if POWER.get(status) == wanted:
                return
            time.sleep(0.01)
        raise StateError(f"the VM is {status} after {command}, not {wanted}", answer=status, log=self.log)

    def disconnect(self) -> None:
        """Close the control connection. Idempotent."""
        if self.control is not None:
            self.control.close()
            self.control = None

    def stop(self, timeout: float, force: bool) -> None:
        """End QEMU: through the guest, by quit, by signals; then remove what it leaves."""
        process = self.process()
        if process is not None and (force or timeout <= 0 or not self.powerdown(process, timeout)):
            self.quit(process)
        self.kill()

    def observe(self) -> Observed:
        """What is true now, in one connection to the observers' monitor."""
        process = self.process()
        if process is None:
            return Observed(
                min_vcpus=self.fewest_vcpus(),
                min_memory_mb=self.least_memory_mb(),
                leftovers=self.leftovers(),
                reason=self.why_off(),
                ended_by_guest=self.state.process is not None and self.ending().by_guest,
            )
        try:
            with self.observer() as qmp:
                qmp.ask(*looks(self.state))
                status = str(qmp.execute("query-status").get("status", ""))
                power = POWER.get(status, "failed")
                reason = f"QEMU reports {status}" if power == "failed" or status == "io-error" else self._lost_daemons()
                if power == "running" and endings.panicked(self.context.run_dir, CONSOLE_LOG):
                    power, reason = "failed", endings.PANICKED
                self.agent_connected = has_agent(qmp)
                threads = vcpu_threads(qmp)
                return Observed(
                    power=power,
                    vmm_status=status,
                    pid=process.pid,
                    vcpus=len(threads) - self.offline_vcpus(),
                    min_vcpus=self.fewest_vcpus(),
                    memory_mb=plugged_memory_mb(qmp, self.state),
                    min_memory_mb=self.least_memory_mb(),
                    devices=plugged_devices(qmp),
                    # No thread has the number 0.
                    thread_ids={vcpu: thread for vcpu, thread in threads.items() if thread},
                    reason=reason,
                )
        except VmmError as error:
            # The connection of a QEMU that ends is gone a moment before its process.
            if isinstance(error, QmpConnectionError) and wait_gone(process, ENDING_SECONDS):
                return self.observe()
            return Observed(power="unresponsive", pid=process.pid, reason=f"QEMU does not answer: {error}")

    def offline_vcpus(self) -> int:
        """vCPUs that the guest does not use because it was asked not to."""
        state = self.state
        if state.offline_vcpus and endings.restarted(self.context.run_dir, state.offline_since):
            state.offline_vcpus = 0
        return state.offline_vcpus

    def fewest_vcpus(self) -> int:
        """The fewest vCPUs this VM can come to while it runs, 0 where only what it has is possible."""
        if self.agent_connected:
            return 1
        return self.state.boot_vcpus if self.unplugs_vcpus() else 0

    def least_memory_mb(self) -> int:
        """The least memory this VM can come to while it runs, MiB."""
        return 0 if self.state.memory_hotplug == "balloon" else self.state.boot_memory_mb

    def unplugs_vcpus(self) -> bool:
        """Whether QEMU can take a vCPU out of this VM: under TCG it does not survive that."""
        return self.state.accelerator == "kvm" and not self.state.keeps_vcpus

    def _lost_daemons(self) -> str:
        lost = [name for name, daemon in self.state.daemons.items() if not daemon.is_alive()]
        return f"the daemon of device {', '.join(lost)} is gone" if lost else ""


def is_leftover(name: str) -> bool:
    """Is it the name of a socket or a pid file, which a VM that ended without ceremony leaves in its run directory?"""
    return (
        name.endswith((".sock", ".sock.pid"))
        or name in (PIDFILE, endings.COMMANDS_FILE, endings.EVENTS_FILE)
        or channels.is_pipe(name)
    )


def looks(state: QemuState) -> list[tuple[str, dict[str, Any] | None]]:
    """The questions of one look at a QEMU, in the order in which their answers are read."""
    memory = "query-balloon" if state.memory_hotplug == "balloon" else "query-memory-size-summary"
    names = ("query-status", "query-chardev", "query-cpus-fast", memory)
    return [*((name, None) for name in names), ("qom-list", {"path": PERIPHERAL})]


def has_agent(qmp: QmpClient) -> bool:
    """Has a program in the guest opened the guest agent's port?"""
    return any(one.get("label") == "agent" and one.get("frontend-open") for one in qmp.execute("query-chardev"))


def plugged_vcpus(qmp: QmpClient) -> int:
    """vCPUs that the VM has."""
    return len(qmp.execute("query-cpus-fast"))


def vcpu_threads(qmp: QmpClient) -> dict[int, int]:
    """The host's thread of each vCPU that the VM has."""
    return {int(cpu["cpu-index"]): int(cpu["thread-id"]) for cpu in qmp.execute("query-cpus-fast")}


def plugged_memory_mb(qmp: QmpClient, state: QemuState) -> int:
    """MiB that the guest has: boot memory and what is plugged, without what a balloon has taken."""
    if state.memory_hotplug == "balloon":
        return int(qmp.execute("query-balloon")["actual"] // MIB)
    summary = qmp.execute("query-memory-size-summary")
    plugged = int(summary.get("plugged-memory", 0))
    if plugged:
        # QEMU counts the files in the guest's memory map as memory too.
        devices = qmp.execute("query-memory-devices")
        plugged -= sum(int(device["data"]["size"]) for device in devices if device["type"] in ("nvdimm", "virtio-pmem"))
    return int((summary.get("base-memory", 0) + plugged) // MIB)


def plugged_devices(qmp: QmpClient) -> list[str]:
    """The user's ids of the devices that are there."""
    names = [str(entry["name"]) for entry in qmp.execute("qom-list", {"path": PERIPHERAL})]
    return sorted(name[len(DEVICE_PREFIX) :] for name in names if name.startswith(DEVICE_PREFIX))
