# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save a paused VM to files, and start a new Firecracker from them."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import time
from typing import Any, Callable

from ...architectures import host_architecture
from ...errors import HostError, StateError, Unsupported, VmmError
from ...host import sparse_files
from ...host.atomic_files import replace_file, sync
from ...host.boot_cache import fingerprint
from ...host.digests import file_mark
from ...host.run_directory import make_run_dir
from ...options.config import HypervisorConfig
from ...options.device_kinds.base import Device, device_id
from ...untrusted.answers import AnswerError, Anything, Flag, ListOf, MapOf, Number, Record, Text, checked, parsed
from ...untrusted.files import Directory
from . import jail_files, start
from .api import dialect
from .api.client import ApiClient, ApiError
from .device_ids import ROOT_DRIVE
from .devices import vsock
from .devices.kinds import device_for
from .host_resources import HostResources
from .state import FirecrackerState, Jail, as_record, from_record
from .vmm import API_SECONDS, POWER, Vmm

#: Files of a saved VM. The description comes last: without it there is no saved VM.
STATE_FILE, MEMORY_FILE, DESCRIPTION_FILE = "vmstate", "memory", "vm.json"
#: What a memory file that has only what is different is laid over, and what comes of that.
BASE_FILE, WHOLE_FILE = "base", "whole"
#: Bytes of a description, and its shape.
DESCRIPTION_LIMIT = 1 << 20
DESCRIPTION = Record(
    {"version": ListOf(Number(most=1 << 20), most=4), "state": MapOf(Anything(depth=40, most=1 << 20))},
    {"vcpus": Number(most=64), "vsock": Text(most=4096), "diff": Flag(), "files": MapOf(Text(most=8192))},
)
#: What the image is called among a saved VM's files; no device's id begins so.
IMAGE = "/image"
#: Directory in a jail through which those files go in and out.
PASSAGE = "snapshot"


@dataclasses.dataclass
class Saved:
    """What a saved VM says of itself.

    :param directory: where it was saved
    :param vcpus: how many it has; 0 where nobody wrote that down
    :param vsock: its vsock's socket, as Firecracker saw it
    :param diff: its memory file has only what is different from its base
    :param files: what its disks and its image were when it was saved, by device, see `file_marks`
    """

    directory: str
    version: list[int]
    state: FirecrackerState
    vcpus: int = 0
    vsock: str = ""
    diff: bool = False
    files: dict[str, str] = dataclasses.field(default_factory=dict)

    def path(self, name: str) -> str:
        """One of its files."""
        return os.path.join(self.directory, name)


def save(vmm: Vmm, config: HypervisorConfig, destination: str, timeout: float) -> None:
    """Write the VM's memory and devices below a directory: whole, or not at all. The VM is paused.

    A template's memory goes where its configuration says. Of a VM that began from a template and keeps account of its dirty pages, only
    what is different is written, beside a link to the template's memory.

    :param timeout: seconds
    :raises Unsupported: this version cannot, or could not restore it
    :raises ApiError: Firecracker refused
    """
    dialect.require_endpoint(vmm.version, "PUT", "/snapshot/create", "snapshots")
    if config.huge_pages:
        raise Unsupported(
            "Firecracker would not restore memory in huge pages from a file",
            option="huge_pages",
            wanted=True,
            fix="Leave huge_pages out for sandboxes that are saved.",
        )
    os.makedirs(destination, mode=0o700, exist_ok=True)
    template = config.boot_to_be_template
    memory = config.memory_path if template else os.path.join(destination, MEMORY_FILE)
    if template:
        make_run_dir(os.path.dirname(memory), "memory_dir")
    files = [os.path.join(destination, name) for name in (DESCRIPTION_FILE, STATE_FILE, BASE_FILE)] + [memory]
    _drop(files)  # Others may have mapped what is there: it is never written to.
    try:
        described = vmm.config(vmm.api())
        diff = _link_base(vmm, config, os.path.join(destination, BASE_FILE))
        _create(vmm, destination, memory, diff, timeout)
        if diff and sparse_files.is_full(memory):
            # Nothing is gained, or this file system does not tell what was written.
            _drop([memory, os.path.join(destination, BASE_FILE)])
            diff = False
            _create(vmm, destination, memory, diff, timeout)
        if template:
            os.chmod(memory, 0o444)  # Users of jails read it, through a link; its directory is closed to all others.
        content = {
            "version": vmm.state.version,
            "state": vmm.state.as_dict(),
            "vcpus": int((described.get("machine-config") or {}).get("vcpu_count") or 0),
            "vsock": str((described.get("vsock") or {}).get("uds_path") or ""),
            "diff": diff,
            "files": file_marks(config, [from_record(record) for record in vmm.state.devices.values()]),
        }
        _write_description(destination, content)
    except BaseException:
        _drop(files)
        raise


def file_marks(config: HypervisorConfig, devices: list[Device]) -> dict[str, str]:
    """What tells the files behind a VM from others, and from themselves after a change: its image, disks and persistent memory, by device.

    A restored guest has in its memory what it knows of them, so another file, or a changed one, is lost data.
    """
    found = {IMAGE: file_mark(root_file(config))} if config.image_path else {}
    for device in devices:
        if device.host_file:
            found[device.identity] = file_mark(device.host_file[0], times=device_for(device).file_keeps_time)
    return found


def root_file(config: HypervisorConfig) -> str:
    """The file behind a VM's root drive."""
    return config.root_disk_path or config.image_path


def check_files(saved: Saved, config: HypervisorConfig, devices: list[Device]) -> None:
    """Refuse a restore over files that are not those with which the VM was saved.

    :param devices: those that are otherwise than at the save; the others are as they were
    :raises StateError: names the file, what it was and what it is
    """
    kept = {name: from_record(record) for name, record in saved.state.devices.items() if record}
    devices = list({**kept, **{device_id(device): device for device in devices}}.values())
    paths = {device.identity: device.host_file[0] for device in devices if device.host_file}
    for name, now in file_marks(config, devices).items():
        before = saved.files.get(name, now)
        if before != now:
            path = root_file(config) if name == IMAGE else paths[name]
            raise StateError(
                f"{path} must be as it was when the sandbox was saved: it was {before}, and is {now}",
                option="image_path" if name == IMAGE else "devices",
                wanted=path,
                fix="Put the old file back, or give the saved state up: state stopped with disruption: restart, which boots the guest from the file.",
            )


def _create(vmm: Vmm, destination: str, memory: str, diff: bool, timeout: float) -> None:
    """Have Firecracker write the two files, and bring them to their places."""
    jail = vmm.state.jail
    places = {STATE_FILE: os.path.join(destination, STATE_FILE), MEMORY_FILE: memory}
    seen = {name: f"/{PASSAGE}/{name}" for name in places} if jail else places
    body = {
        "snapshot_type": "Diff" if diff else "Full",
        "snapshot_path": seen[STATE_FILE],
        "mem_file_path": seen[MEMORY_FILE],
    }
    if jail is None:
        vmm.api().put("/snapshot/create", body, timeout)
    else:
        # What Firecracker wrote is taken out of the directory that was made here, whatever has its name by then.
        with jail_files.make_directory(jail, PASSAGE) as passage:
            try:
                vmm.api().put("/snapshot/create", body, timeout)
                for name, path in places.items():
                    _take_out(jail, passage, name, path)
            finally:
                _drop_passage(jail)
    for path in places.values():
        sync(path)


def _link_base(vmm: Vmm, config: HypervisorConfig, link: str) -> bool:
    """Keep the memory that the VM began from, whatever becomes of its template; False where it is not there or not needed."""
    if not vmm.state.base or not config.track_dirty_pages:
        return False
    path, mark = vmm.state.base
    if fingerprint(path) != mark:
        return False
    try:
        os.link(path, link)
    except OSError:
        return False  # On another file system, all of the memory is kept.
    return True


def restore(
    vmm: Vmm, config: HypervisorConfig, devices: list[Device], jail: Jail | None, source: str, timeout: float
) -> None:
    """Start a Firecracker from what `save` wrote; its VM is paused. On failure nothing of the attempt is left.

    :param devices: those that the VM had
    :raises StateError: there is no saved VM, or another version or a jailed one wrote it
    :raises ApiError: Firecracker does not take it, and has ended
    """
    saved = read(source)
    if saved.version != vmm.state.version:
        raise StateError(
            f"the state was saved by Firecracker {dialect.shown(tuple(saved.version))}, and this is {dialect.shown(vmm.version)}",
            option="hypervisor_path",
            fix="Name the old binary, or stop the sandbox to give its saved state up.",
        )
    if (saved.state.jail is None) != (jail is None):
        raise StateError(
            "a VM that was saved in a jail cannot be restored outside of one, nor the other way round",
            option="jailer_path",
            fix="Give jailer_path as it was, or stop the sandbox to give its saved state up.",
        )
    given = {device_id(device): device for device in devices}
    # What it has from its template is listed nowhere but there.
    kept = {name: from_record(record) for name, record in saved.state.devices.items() if record}
    devices = list({**kept, **given}.values())
    check_files(saved, config, devices)
    deadline = time.monotonic() + timeout
    memory = saved.path(MEMORY_FILE)
    if saved.diff:
        memory = saved.path(WHOLE_FILE)
        sparse_files.lay_over(saved.path(BASE_FILE), saved.path(MEMORY_FILE), memory)

    def attempt(clock: bool) -> None:
        with start.launched(vmm, config, devices, jail, deadline) as (api, host):
            vmm.state.uuid = saved.state.uuid
            load(vmm, config, devices, (api, host), saved, memory, deadline, clock=clock)

    with_clock(vmm, attempt)


def with_clock(vmm: Vmm, attempt: Callable[[bool], None]) -> None:
    """Load a saved VM with its clock moved on by the time since, where this version can do that and the saved VM says when it was saved.

    :param attempt: loads it from nothing, with or without that
    """
    wanted = dialect.can(vmm.version, "clock_realtime") and host_architecture().guest_clock
    try:
        attempt(wanted)
    except ApiError as error:
        # Its host's kernel had no such clock (Linux 5.16).
        if not wanted or "clock_realtime" not in error.answer:
            raise
        attempt(False)


def load(
    vmm: Vmm,
    config: HypervisorConfig,
    devices: list[Device],
    launched: tuple[ApiClient, HostResources],
    saved: Saved,
    memory: str,
    deadline: float,
    template: bool = False,
    clock: bool = False,
) -> None:
    """Have a Firecracker that was just launched take a saved VM over, which is paused then.

    :param devices: those of the VM, with what they have on the host now
    :param memory: path of its memory
    :param template: the files are those of a template, and stay what they are; the memory is in the jail already
    :param clock: move the guest's clock on by the time since it was saved
    """
    api, host = launched
    state, jail = vmm.state, vmm.state.jail
    state.boot_memory_mb, state.region_mb = saved.state.boot_memory_mb, saved.state.region_mb
    state.placeholders = list(saved.state.placeholders)
    state.devices = {device_id(device): as_record(device) for device in devices}
    if config.root_disk_path:
        host.provide_own_file(config.root_disk_path, ROOT_DRIVE)
    elif config.image_path:
        host.provide_file(config.image_path, ROOT_DRIVE)
    socket = host.provide_socket(vsock.OWN_SOCKET) if vsock.kept_own(saved.state) else ""
    seen = {STATE_FILE: saved.path(STATE_FILE), MEMORY_FILE: memory}
    if jail is not None:
        with jail_files.make_directory(jail, PASSAGE) as passage:
            _let_in(jail, passage, seen[STATE_FILE], STATE_FILE, copy=template)
            if not template:
                _let_in(jail, passage, memory, MEMORY_FILE, copy=False)
        seen = {name: f"/{PASSAGE}/{name}" for name in seen}
        if template:
            seen[MEMORY_FILE] = host.own_path(start.TEMPLATE_MEMORY)
    body: dict[str, Any] = {"snapshot_path": seen[STATE_FILE], **_overrides(vmm, devices, host, saved, socket)}
    if dialect.dialect_for(vmm.version).mem_backend:
        body["mem_backend"] = {"backend_type": "File", "backend_path": seen[MEMORY_FILE]}
    else:
        body["mem_file_path"] = seen[MEMORY_FILE]
    if config.track_dirty_pages:
        body[dialect.dirty_pages_word(vmm.version)] = True
    if clock:
        body["clock_realtime"] = True
    for request in start.output_requests(vmm, config, host):
        api.put(request.path, request.body)
    api.put("/snapshot/load", body, max(API_SECONDS, deadline - time.monotonic()))
    if jail is not None:
        # The memory is mapped; it lives on without a name.
        jail_files.drop(jail, start.TEMPLATE_MEMORY)
        _drop_passage(jail)
    status = vmm.status(api)
    if POWER.get(status) != "paused":
        raise VmmError("Firecracker took the saved state, and its VM is not paused", answer=status, log=vmm.log)
    for device in devices:
        device_for(device).after_load(api)


def _overrides(vmm: Vmm, devices: list[Device], host: HostResources, saved: Saved, socket: str) -> dict[str, Any]:
    """What of the VM is elsewhere on the host than it was: its taps, and the socket of its vsock.

    :raises Unsupported: this version cannot have it elsewhere
    """
    body: dict[str, Any] = {}
    nets: list[dict[str, str]] = []
    for device in map(device_for, devices):
        nets += device.network_overrides(vmm.version, saved.state.devices.get(device.identity, {}))
        socket = device.vsock_path(host) or socket
    if nets:
        body["network_overrides"] = nets
    if saved.vsock and socket != saved.vsock:
        dialect.require(vmm.version, "vsock_override", "devices", socket)
        body["vsock_override"] = {"uds_path": socket}
    return body


def _drop_passage(jail: Jail) -> None:
    """Remove the passage; what cannot be removed goes with the jail."""
    with contextlib.suppress(OSError, HostError):
        jail_files.drop(jail, PASSAGE)


def _let_in(jail: Jail, passage: Directory, source: str, name: str, copy: bool) -> None:
    """Let the jail have a saved file: it is ours and about to be removed, so it may be the jail's own, unless a copy is wanted."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            if copy:
                raise OSError
            passage.link(descriptor, name)
            os.fchown(descriptor, jail.uid, jail.gid)
        except OSError:
            target = passage.create(name)
            try:
                sparse_files.copy_data(descriptor, target)
                os.fchown(target, jail.uid, jail.gid)
            finally:
                os.close(target)
    finally:
        os.close(descriptor)


def _take_out(jail: Jail, passage: Directory, name: str, path: str) -> None:
    """Move a file that the jail's user has written out of its jail. That user may have put anything there, so only a regular file is taken."""
    try:
        with Directory.open(os.path.dirname(path)) as target:
            try:
                os.close(passage.take_out(name, target, os.path.basename(path), (jail.uid,)))
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                descriptor = passage.open_file(name, owners=(jail.uid,), links=1)
                try:
                    sparse_files.copy(descriptor, path)
                finally:
                    os.close(descriptor)
    except OSError as error:
        raise VmmError(
            "what was saved in the jail cannot be taken out of it",
            wanted=jail.path(f"{PASSAGE}/{name}"),
            answer=str(error),
        ) from error


def _drop(paths: list[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _write_description(destination: str, value: dict[str, Any]) -> None:
    replace_file(os.path.join(destination, DESCRIPTION_FILE), json.dumps(value).encode(), 0o600)
    # The record says "saved" after that.
    sync(os.path.dirname(destination))


def read(source: str) -> Saved:
    """What a saved VM says of itself.

    :raises StateError: there is none
    """
    try:
        with open(os.path.join(source, DESCRIPTION_FILE), encoding="utf-8") as stream:
            value = parsed(
                stream.read(DESCRIPTION_LIMIT + 1), f"the description of the saved VM in {source}", DESCRIPTION_LIMIT
            )
        os.stat(os.path.join(source, STATE_FILE))
        value = checked(DESCRIPTION, value, f"the description of the saved VM in {source}")
        rest = {name: value[name] for name in ("vcpus", "vsock", "diff", "files") if name in value}
        return Saved(source, list(value["version"]), FirecrackerState.from_dict(value["state"]), **rest)
    except (OSError, ValueError, TypeError, KeyError, AnswerError) as error:
        raise StateError(f"there is no saved VM in {source}", answer=str(error)) from error
