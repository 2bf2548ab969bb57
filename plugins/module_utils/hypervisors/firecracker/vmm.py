# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Firecracker on the host: its process, its API, its files. What every operation needs, and all that a look at it takes."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Iterator

from ...architectures import host_architecture
from ...errors import HypervisorError, StateError, VmmError
from ...host.processes import ProcessIdentity, command_lines, identify, tail, terminate, wait_gone, why_gone
from ...host.sockets import is_socket
from ...host.turns import without_turn
from ..base import Context, Observed
from ..common.vmm_process import VmmProcess
from .api.client import ApiClient, ApiConnectionError
from .endings import reason_in
from .names import API_SOCKET, CONSOLE_LOG, VMM_LOG
from .state import FirecrackerState, Jail

#: Seconds for one request to a VMM that is well.
API_SECONDS = 5.0
#: Seconds that SIGTERM and SIGKILL get, each.
STEP_SECONDS = 5.0
#: Seconds in which a VMM that broke a connection has ended, if that is why.
ENDED_SECONDS = 0.5
#: How often a jail is searched for processes that were started while others were ended.
ROUNDS = 50
#: A jailed one is the first process of its PID namespace: of a SIGTERM from outside it does not hear (pid_namespaces(7)).
JAILED_PATIENCE = 0.02
#: What a jailed one's is called up to the first version that is told.
OLD_JAILED_SOCKET, NAMES_SOCKET = "api.socket", (0, 21)
#: Firecracker's words for the state of a VM and ours. 0.17 to 0.23 say Uninitialized, Starting, Running, Halting and Halted.
POWER = {"Running": "running", "Paused": "paused"}
#: Versions that can tell their whole configuration.
TELLS_CONFIG = (0, 25)


class Vmm(VmmProcess):
    """The Firecracker of one sandbox.

    :param context: the sandbox's directories
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.state = FirecrackerState()

    # --- where things are ------------------------------------------------------------------------------------------

    @property
    def version(self) -> tuple[int, ...]:
        """Of the binary that the VM was started with, or will be."""
        return tuple(self.state.version)

    @property
    def socket(self) -> str:
        """The API's socket."""
        if self.state.jail is None:
            return self.context.run_path(API_SOCKET)
        return self.state.jail.path(OLD_JAILED_SOCKET if self.version < NAMES_SOCKET else API_SOCKET)

    @property
    def console_log(self) -> str:
        """What the guest printed; Firecracker's standard output, which takes its serial console."""
        return self.context.run_path(CONSOLE_LOG)

    @property
    def log(self) -> str:
        """Firecracker's own log."""
        return self.written(VMM_LOG)

    def written(self, name: str) -> str:
        """A file that Firecracker writes: beside the jail's root directory as long as there is one, else in the run directory."""
        beside = os.path.join(self.state.jail.directory, name) if self.state.jail else ""
        return beside if beside and os.path.lexists(beside) else self.context.run_path(name)

    def last_words(self, lines: int = 5) -> str:
        """The ends of both logs."""
        return "\n".join(filter(None, (tail(path, lines).strip() for path in (self.console_log, self.log))))

    def explain(self, error: VmmError) -> None:
        """Let an error about a broken connection say why the VMM ended, where it has."""
        process = self.state.process
        if isinstance(error, ApiConnectionError) and process is not None and wait_gone(process, ENDED_SECONDS):
            reason = reason_in(tail(self.log))
            error.message = f"Firecracker ended{f' by {reason}' if reason else ''}, so {error.message}"
            error.answer = self.last_words() or error.answer
            error.args = (error.message,)

    # --- the process -----------------------------------------------------------------------------------------------

    def process(self) -> ProcessIdentity | None:
        """The Firecracker of this sandbox, if one runs: the one remembered, or one that was started and not yet written down."""
        if self.state.process is not None and self.state.process.is_alive():
            return self.state.process
        if not self.state.launching:
            return None
        found = next(self.processes(), None)
        if found is not None:
            self.state.process = found
        return found

    def processes(self) -> Iterator[ProcessIdentity]:
        """Every process of this VM that can be found: by its root directory in a jail, else by its command line."""
        jail = self.state.jail
        first = identify(jailed_pid(jail)) if jail else None
        if first is not None:
            yield first
        for pid, words in command_lines():
            mine = (
                in_jail(pid, jail) or _enters(words, jail) if jail else self.socket in words and "--api-sock" in words
            )
            found = identify(pid) if mine and pid != os.getpid() else None
            if found is not None and found != first:
                yield found

    def api(self, seconds: float = API_SECONDS) -> ApiClient:
        """Requests to this VM.

        :raises StateError: it does not run
        """
        process = self.process()
        if process is None:
            raise StateError("the VM does not run", answer=self.why_off(), log=self.log)
        return self.client(seconds, process.pid)

    def client(self, seconds: float = API_SECONDS, pid: int = 0) -> ApiClient:
        """Requests to this VM's socket, whoever listens there.

        :param pid: who must listen there, 0 where that is not known yet
        """
        jail = self.state.jail
        return ApiClient(self.socket, seconds, ".".join(map(str, self.version)), jail.uid if jail else -1, pid)

    def why_off(self) -> str:
        """What is known of the end of a VM that was not stopped."""
        words = why_gone("Firecracker", self.state.process, self.last_words(3))
        reason = reason_in(tail(self.log)) if words else ""
        return f"{words}; it ended by {reason}" if reason else words

    # --- looking ---------------------------------------------------------------------------------------------------

    def observe(self) -> Observed:
        """What is true now, in two or three requests."""
        process = self.process()
        if process is None:
            return Observed(leftovers=self.leftovers(), reason=self.why_off(), min_memory_mb=self.state.boot_memory_mb)
        try:
            api = self.api()
            status = self.status(api)
            power = POWER.get(status, "failed")
            if power == "failed":
                return Observed(power, status, process.pid, reason=f"Firecracker says {status}, its VM was not started")
            config = self.config(api)
            machine = config["machine-config"]
            return Observed(
                power=power,
                vmm_status=status,
                pid=process.pid,
                vcpus=machine["vcpu_count"],
                memory_mb=machine["mem_size_mib"] + self.plugged_memory_mb(api),
                min_memory_mb=self.state.boot_memory_mb,
                devices=self.plugged_devices(config),
                outdated=self.outdated(api, config),
            )
        except VmmError as error:
            return Observed("unresponsive", pid=process.pid, reason=f"Firecracker does not answer: {error}")

    def status(self, api: ApiClient) -> str:
        """Firecracker's word for the VM's state."""
        return str(api.get("/")["state"])

    def config(self, api: ApiClient) -> dict[str, Any]:
        """What Firecracker says the VM is made of; old versions only tell vCPUs and memory."""
        if self.version >= TELLS_CONFIG:
            found: dict[str, Any] = api.get("/vm/config")
            return found
        return {"machine-config": api.get("/machine-config")}

    def plugged_memory_mb(self, api: ApiClient) -> int:
        """MiB that the guest has taken of its memory region."""
        if not self.state.region_mb:
            return 0
        return int(api.get("/hotplug/memory")["plugged_size_mib"])

    def plugged(self, api: ApiClient) -> list[str]:
        """The user's ids of the devices that are there, asked for where the version can tell."""
        return self.plugged_devices(self.config(api) if self.version >= TELLS_CONFIG else {})

    def plugged_devices(self, config: dict[str, Any]) -> list[str]:
        """The user's ids of the devices that are there."""
        if self.version < TELLS_CONFIG:
            return sorted(self.state.devices)
        from .device_ids import ids_in

        return ids_in(config, self.state)

    def outdated(self, api: ApiClient, config: dict[str, Any]) -> list[str]:
        """The user's ids of the devices that are otherwise than they were last set."""
        if self.version < TELLS_CONFIG or not self.state.devices:
            return []
        from .comparison import outdated

        return outdated(config, self.state, lambda: api.get("/mmds"))

    def leftovers(self) -> list[str]:
        """What a VM that is gone has left on the host."""
        places = [path for path in (self.context.run_path(API_SOCKET), *self.state.sockets) if is_socket(path)]
        places += [self.state.jail.directory] if self.state.jail else []
        places += [f"/sys/class/net/{tap}" for tap in self.state.taps]
        return [path for path in places if os.path.lexists(path)]

    # --- acting ----------------------------------------------------------------------------------------------------

    def set_state(self, wanted: str) -> None:
        """Bring the VM to `running` or `paused`, and read back.

        :raises Unsupported: this version cannot
        :raises ApiError: Firecracker refused
        """
        from .api.dialect import require_endpoint

        require_endpoint(self.version, "PATCH", "/vm", "pause and resume", wanted=wanted)
        api = self.api()
        api.patch("/vm", {"state": "Resumed" if wanted == "running" else "Paused"})
        status = self.status(api)
        if POWER.get(status) != wanted:
            raise VmmError(f"the VM is {status} and should be {wanted}", answer=status, log=self.log)

    def stop(self, timeout: float, force: bool) -> None:
        """End the VM: through the guest, by SIGTERM, by SIGKILL; then remove what it leaves."""
        process = self.process()
        if process is not None and not force and timeout > 0:
            self.ask_to_shut_down(process, timeout)
        self.kill()

    def ask_to_shut_down(self, process: ProcessIdentity, timeout: float) -> bool:
        """Press Ctrl-Alt-Del; True when the process has ended in time. A paused guest is resumed, or it could not obey."""
        if not host_architecture().keyboard:
            return False
        deadline = time.monotonic() + timeout
        with contextlib.suppress(HypervisorError):
            api = self.api()
            if self.status(api) == "Paused":
                api.patch("/vm", {"state": "Resumed"})
            api.put("/actions", {"action_type": "SendCtrlAltDel"})
            with without_turn():
                return wait_gone(process, max(0.0, deadline - time.monotonic()))
        return not process.is_alive()

    def adopt(self) -> None:
        """Look for a Firecracker of this sandbox by its command line, and for its jail where jails are by default."""
        from . import jailer, preparation

        self.state.launching = True
        if self.state.jail is None:
            self.state.jail = jailer.find_jail(preparation.default_base(self.context), self.context.sandbox_id)

    def _end_processes(self) -> None:
        """End the VMM and, in a jail, everything that runs there and may start more.

        :raises VmmError: a process does not end
        """
        jail, stuck = self.state.jail, None
        for _round in range(ROUNDS):
            found = {
                identity.pid: identity for identity in (self.process(), *(self.processes() if jail else ())) if identity
            }
            if not found:
                return
            stuck = None
            for identity in found.values():
                if terminate(identity, STEP_SECONDS, JAILED_PATIENCE if jail else None) == "stuck":
                    stuck = identity
            if stuck is not None:
                break
        pid = stuck.pid if stuck else next(iter(found))
        raise VmmError(f"Firecracker (pid {pid}) does not end, not even by SIGKILL", log=self.log)

    def kill(self) -> None:
        """End every process of the VM and remove everything that was made for it.

        :raises VmmError: a process does not end
        :raises HostError: something cannot be removed
        """
        state = self.state
        self._end_processes()
        if state.taps:
            from ...host.network import remove_tap

            for tap in state.taps:
                remove_tap(tap)  # One that another VM has taken by now is that one's.
        if state.jail is not None:
            from . import jail_files, jailer

            jail_files.keep_log(state.jail, VMM_LOG, self.context.run_path(VMM_LOG))
            jailer.remove(state.jail)
        for path in (self.context.run_path(API_SOCKET), *state.sockets):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        state.process, state.launching, state.jail = None, False, None
        state.taps, state.sockets, state.devices, state.placeholders, state.singles, state.base = [], [], {}, [], {}, []
        state.vsock = ""


def in_jail(pid: int, jail: Jail) -> bool:
    """Is a jail's root directory a process's root directory?"""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat(jail.root))
    except OSError:
        return False


def jailed_pid(jail: Jail) -> int:
    """The pid that the jailer wrote into the jail, 0 when it has not, or when that process does not live there."""
    from . import jail_files

    pid = jail_files.recorded_pid(jail)
    return pid if pid > 0 and in_jail(pid, jail) else 0


def _enters(words: list[str], jail: Jail) -> bool:
    """Is a command line that of a jailer on its way into a jail?"""
    return "--chroot-base-dir" in words and jail.base in words and jail.id in words
