# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save a paused VM to files, and start a new Firecracker from them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.devices import Device, MetadataService, device_id
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import StateError, VmmError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import dialect, jailer, starting
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.state import (
    FirecrackerState,
    Jail,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.vm import API_SECONDS, POWER, Vm

#: Files of a saved VM. The description comes last: without it there is no saved VM.
STATE_FILE, MEMORY_FILE, DESCRIPTION_FILE = "vmstate", "memory", "vm.json"
#: Directory in a jail through which those files go in and out.
PASSAGE = "snapshot"


def save(machine: Vm, destination: str, timeout: float) -> None:
    """Write the VM's memory and devices below a directory: whole, or not at all. The VM is paused.

    :param timeout: seconds
    :raises Unsupported: this version cannot
    :raises ApiError: Firecracker refused
    """
    dialect.require_endpoint(machine.version, "PUT", "/snapshot/create", "snapshots")
    os.makedirs(destination, mode=0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(destination, DESCRIPTION_FILE))
    jail = machine.state.jail
    directory = _passage(jail) if jail else destination
    seen = f"/{PASSAGE}" if jail else destination
    try:
        machine.api().put(
            "/snapshot/create",
            {
                "snapshot_type": "Full",
                "snapshot_path": f"{seen}/{STATE_FILE}",
                "mem_file_path": f"{seen}/{MEMORY_FILE}",
            },
            timeout,
        )
        for name in (STATE_FILE, MEMORY_FILE):
            if jail:
                _take_out(os.path.join(directory, name), os.path.join(destination, name))
            _flush(os.path.join(destination, name))
        _write_description(destination, {"version": machine.state.version, "state": machine.state.as_dict()})
    except BaseException:
        for name in (STATE_FILE, MEMORY_FILE):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(destination, name))
        raise
    finally:
        if jail:
            shutil.rmtree(directory, ignore_errors=True)


def restore(machine: Vm, config: HypervisorConfig, devices: list[Device], jail: Jail | None, source: str, timeout: float) -> None:
    """Start a Firecracker from what L(save) wrote; its VM is paused. On failure nothing of the attempt is left.

    :param devices: those that the VM had
    :raises StateError: there is no saved VM, or another version or a jailed one wrote it
    :raises ApiError: Firecracker does not take it, and has ended
    """
    saved, version = _read_description(source)
    if list(version) != machine.state.version:
        raise StateError(
            f"the state was saved by Firecracker {dialect.shown(tuple(version))}, and this is {dialect.shown(machine.version)}",
            option="hypervisor_path",
            fix="Name the old binary, or stop the sandbox to give its saved state up.",
        )
    if (saved.jail is None) != (jail is None):
        raise StateError(
            "a VM that was saved in a jail cannot be restored outside of one, nor the other way round",
            option="jailer_path",
            fix="Give jailer_path as it was, or stop the sandbox to give its saved state up.",
        )
    deadline = time.monotonic() + timeout
    with starting.launched(machine, config, devices, jail, deadline) as (api, host):
        state = machine.state
        state.uuid, state.boot_memory_mb, state.region_mb = saved.uuid, saved.boot_memory_mb, saved.region_mb
        state.placeholders, state.devices = list(saved.placeholders), [device_id(device) for device in devices]
        if config.image_asset_path():
            host.provide_file(config.image_asset_path(), "rootfs")
        if config.use_vsock:
            host.provide_socket("vsock.sock")
        places = {name: os.path.join(source, name) for name in (STATE_FILE, MEMORY_FILE)}
        if jail is not None:
            _passage(jail)
            for name, path in places.items():
                _let_in(jail, path, name)
                places[name] = f"/{PASSAGE}/{name}"
        body: dict[str, Any] = {"snapshot_path": places[STATE_FILE]}
        if dialect.dialect_for(machine.version).mem_backend:
            body["mem_backend"] = {"backend_type": "File", "backend_path": places[MEMORY_FILE]}
        else:
            body["mem_file_path"] = places[MEMORY_FILE]
        for request in starting.output_requests(machine, config, host):
            api.put(request.path, request.body)
        api.put("/snapshot/load", body, max(API_SECONDS, deadline - time.monotonic()))
        if jail is not None:
            # The memory is mapped; it lives on without a name.
            shutil.rmtree(jail.path(PASSAGE), ignore_errors=True)
        status = machine.status(api)
        if POWER.get(status) != "paused":
            raise VmmError("Firecracker took the saved state, and its VM is not paused", answer=status, log=machine.log)
        for service in devices:
            if isinstance(service, MetadataService):  # No snapshot keeps what it tells.
                api.put("/mmds", service.contents)


def _passage(jail: Jail) -> str:
    shutil.rmtree(jail.path(PASSAGE), ignore_errors=True)
    return jailer.make_directory(jail, PASSAGE)


def _let_in(jail: Jail, source: str, name: str) -> None:
    """Let the jail have a saved file: it is ours and about to be removed, so it may be the jail's own."""
    target = jail.path(f"{PASSAGE}/{name}")
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    os.chown(target, jail.uid, jail.gid)


def _take_out(source: str, target: str) -> None:
    """Move a file out of a jail. Its user may have put anything there, so only a regular file is taken."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not os.path.isfile(source) or status.st_nlink != 1:
            raise VmmError("what was saved in the jail is no file of its own", answer=source)
        try:
            os.replace(source, target)
        except OSError:
            with open(target, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as copy:
                shutil.copyfileobj(stream, copy, 1 << 20)
    os.chown(target, os.geteuid(), os.getegid())
    os.chmod(target, 0o600)


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_description(destination: str, value: dict[str, Any]) -> None:
    temporary = os.path.join(destination, DESCRIPTION_FILE + ".new")
    with open(temporary, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
        json.dump(value, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, os.path.join(destination, DESCRIPTION_FILE))


def _read_description(source: str) -> tuple[FirecrackerState, list[int]]:
    """The state and the version of a saved VM.

    :raises StateError: there is none
    """
    try:
        with open(os.path.join(source, DESCRIPTION_FILE), encoding="utf-8") as stream:
            value = json.load(stream)
        for name in (STATE_FILE, MEMORY_FILE):
            os.stat(os.path.join(source, name))
        return FirecrackerState.from_dict(value["state"]), list(value["version"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StateError(f"there is no saved VM in {source}", answer=str(error)) from error
