# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start: a complete configuration and its devices become a running VM, or nothing at all."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from typing import Iterator

from ...errors import DeadlineExceeded, LaunchError, StateError, VmmError
from ...guest.disks import is_partitioned
from ...host import block_devices
from ...host.processes import identify
from ...host.run_directory import make_run_dir, rotate_log
from ...host.spawn import spawn_detached
from ...options.config import HypervisorConfig
from ...options.device_kinds.base import Device, device_id
from ...options.device_kinds.vsock import Vsock
from ...options.kernel_params import kernel_params_string
from ...untrusted.files import Directory
from ..common.scope import scope_command
from ..common.vmm_process import file_uses
from . import jail_files, jailer
from . import requests as resources
from .api.client import ApiClient, ApiConnectionError
from .api.dialect import can, dialect_for
from .device_ids import PLACEHOLDER, ROOT_DRIVE
from .devices import vsock
from .devices.kinds import device_for
from .endings import exit_words
from .host_resources import HostResources
from .kernel_params import kernel_params
from .names import API_SOCKET, CONSOLE_LOG, METRICS, VMM_LOG
from .preparation import read_cpu_config
from .requests import LARGEST_REQUEST, Request
from .state import Jail, as_record
from .vmm import API_SECONDS, POWER, Vmm, jailed_pid

#: Seconds between two looks at a Firecracker that is starting; its API is there after a few milliseconds.
POLL = 0.005
#: Bytes of an empty disk that waits to be exchanged for another.
PLACEHOLDER_BYTES = 4096
#: What of Firecracker's own words is kept where the task does not say: below this come two lines for each of our requests.
LOG_LEVEL = "warning"
#: A template's memory in a clone's jail, until it is mapped.
TEMPLATE_MEMORY = "template_memory"


def start(vmm: Vmm, config: HypervisorConfig, devices: list[Device], jail: Jail | None, timeout: float) -> None:
    """Start Firecracker, make the VM and let it run; on failure nothing of the attempt is left.

    :param devices: those that are there from the start
    :param timeout: seconds until it runs
    :raises StateError: one runs already
    :raises LaunchError: Firecracker, or its jailer, ended
    :raises ApiError: Firecracker refused a part of the VM
    :raises DeadlineExceeded: it did not answer in time
    """
    deadline = time.monotonic() + timeout
    with launched(vmm, config, devices, jail, deadline) as (api, host):
        boot(vmm, config, devices, api, host, deadline)


def boot(
    vmm: Vmm, config: HypervisorConfig, devices: list[Device], api: ApiClient, host: HostResources, deadline: float
) -> None:
    """Make the VM of a Firecracker that was just launched, let it run, and read back that it does."""
    for request in requests(vmm, config, devices, host):
        api.put(request.path, request.body, max(API_SECONDS, deadline - time.monotonic()))
    status = vmm.status(api)
    if POWER.get(status) != "running":
        raise VmmError("Firecracker took every request, and its VM does not run", answer=status, log=vmm.log)


@contextlib.contextmanager
def launched(
    vmm: Vmm, config: HypervisorConfig, devices: list[Device], jail: Jail | None, deadline: float, template: str = ""
) -> Iterator[tuple[ApiClient, HostResources]]:
    """A Firecracker whose API answers, and the host's side of its VM. When what is done with it fails, nothing of it is left.

    :param template: path of the memory that it is going to share with others
    """
    if vmm.process() is not None:
        raise StateError("its Firecracker runs already")
    vmm.kill()
    state = vmm.state
    state.new_identity()
    state.jail = jail
    state.pci = config.enable_pci
    state.boot_memory_mb, state.region_mb = config.memory_size, resources.region_size(config)
    state.placeholders = [""] * config.placeholder_drives
    state.launching = True
    vmm.context.checkpoint()
    with contextlib.ExitStack() as claims:
        yield from _launched(vmm, config, devices, jail, deadline, template, claims)
    # The process is written down; that nothing is under way any more is written with what the engine writes next.
    state.launching = False


def _launched(
    vmm: Vmm,
    config: HypervisorConfig,
    devices: list[Device],
    jail: Jail | None,
    deadline: float,
    template: str,
    claims: contextlib.ExitStack,
) -> Iterator[tuple[ApiClient, HostResources]]:
    try:
        # No other VM gets the files until Firecracker has them open, or has ended.
        claims.enter_context(block_devices.claimed(file_uses(config, devices)))
        make_run_dir(vmm.context.run_dir)
        for log in (CONSOLE_LOG, VMM_LOG):
            rotate_log(vmm.context.run_path(log))
        host = HostResources(vmm, config)
        if jail is not None:
            jailer.make(jail)
        _make_own_files(vmm, config)
        for device in devices:
            device_for(device).provide(host)
        if template:
            host.provide_file(template, TEMPLATE_MEMORY, shared=True)
        api = _launch(vmm, config, deadline)
        try:
            yield api, host
        except ApiConnectionError as error:
            # It has ended: what it said last tells more than a broken connection.
            error.answer = vmm.last_words(10) or error.answer
            raise
    except BaseException:
        vmm.kill()
        vmm.context.checkpoint()
        raise


def _make_own_files(vmm: Vmm, config: HypervisorConfig) -> None:
    """Logs, which old versions want to find there, and empty disks.

    Of a jailed Firecracker they lie beside the jail's root directory, else in the run directory.
    """
    jail, context = vmm.state.jail, vmm.context
    with Directory.open(context.run_dir) as directory:
        for name in (VMM_LOG, METRICS) if wants_metrics(config) else (VMM_LOG,):
            if jail is not None:
                jail_files.make_log(jail, name)
            else:
                directory.remove(name)
                os.close(directory.create(name))
        for number in range(config.placeholder_drives):
            name = f"{PLACEHOLDER}{number}"
            if jail is not None:
                jail_files.make_file(jail, name, PLACEHOLDER_BYTES)
            else:
                directory.remove(name)
                os.close(directory.create(name, size=PLACEHOLDER_BYTES))


def _launch(vmm: Vmm, config: HypervisorConfig, deadline: float) -> ApiClient:
    """Start the process and wait until its API answers."""
    words = argv(vmm, config)
    try:
        child = spawn_detached(words, vmm.console_log, wrapper=scope_command(vmm.context, config))
    except OSError as error:
        raise LaunchError("Firecracker cannot be run", argv=words, answer=str(error)) from error
    vmm.state.process = identify(child.pid)
    vmm.context.checkpoint()
    api = vmm.client()
    # A jailer that makes a PID namespace has a child become Firecracker, and writes down who that is.
    jail = vmm.state.jail if can(vmm.version, "pid_namespace") else None
    while True:
        try:
            api.get("/", min(API_SECONDS, max(POLL, deadline - time.monotonic())))
            if jail is None or jailed_pid(jail):
                break
        except ApiConnectionError as error:
            if child.poll() is not None and not any(vmm.processes()):
                raise _launch_error(vmm, child, words) from error
            if time.monotonic() >= deadline:
                raise DeadlineExceeded(
                    "Firecracker did not answer on its API in time",
                    answer=vmm.last_words() or error.answer,
                    log=vmm.console_log,
                    fix="Give it more time (start_timeout), or look into its log.",
                ) from error
        time.sleep(POLL)
    # The jailer became Firecracker, or its child did: who answers now is whom to remember.
    found = next(vmm.processes(), None)
    if found is None:
        raise LaunchError("a Firecracker answers that is not the one that was started", argv=words, log=vmm.console_log)
    if found != vmm.state.process:
        vmm.state.process = found
        vmm.context.checkpoint()
    return vmm.api()


def argv(vmm: Vmm, config: HypervisorConfig) -> list[str]:
    """The whole command line, program first."""
    jail = vmm.state.jail
    arguments = ["--api-sock", f"/{API_SOCKET}" if jail else vmm.socket]
    if can(vmm.version, "log_arguments"):
        # From its first word on, so that nothing but the guest's console goes to its standard output.
        level = config.vmm_log_level or ("debug" if config.debug else LOG_LEVEL)
        arguments += [
            "--log-path",
            f"/{VMM_LOG}" if jail else vmm.log,
            "--level",
            level.capitalize(),
            "--show-level",
        ]
        if config.debug:
            arguments.append("--show-log-origin")
    if config.mmds_size_limit:
        # A request's body has the contents, and a little around them.
        size = config.mmds_size_limit
        arguments += [
            "--mmds-size-limit",
            str(size),
            "--http-api-max-payload-size",
            str(max(size, LARGEST_REQUEST) + 1024),
        ]
    if config.enable_pci:
        arguments.append("--enable-pci")
    firecracker = os.path.realpath(config.hypervisor_path)
    if jail is None:
        named = [] if dialect_for(vmm.version).old_jailer else ["--id", jailer.jail_id(vmm.context.sandbox_id)]
        return [firecracker, *named, *arguments]
    return jailer.argv(config, config.jailer_path, firecracker, vmm.version, jail, arguments)


def _launch_error(vmm: Vmm, child: subprocess.Popen[bytes], words: list[str]) -> LaunchError:
    code = child.returncode
    program = "the jailer" if vmm.state.jail else "Firecracker"
    how = f"{program} {exit_words(code)}"
    if code == 0:
        how += " and left no Firecracker behind; a jailed one has to be linked statically"
    answer = vmm.last_words(10)
    denied = "KVM" in answer and ("Error(13)" in answer or "denied" in answer.lower())
    fix = "Its user needs access to /dev/kvm (group kvm)." if denied else ""
    return LaunchError(how, exit_code=code, argv=words, answer=answer, log=vmm.console_log, fix=fix)


def requests(vmm: Vmm, config: HypervisorConfig, devices: list[Device], host: HostResources) -> list[Request]:
    """What makes the VM, in the order of Kata 1.x: machine, kernel, root disk, empty disks, devices, start."""
    dialect = dialect_for(vmm.version)
    image, disk = config.image_path, config.root_disk_path
    made = [*output_requests(vmm, config, host), resources.machine_config(config, dialect)]
    if config.cpu_config_path:
        made.append(Request("/cpu-config", read_cpu_config(config.cpu_config_path)))
    arguments = kernel_params_string(kernel_params(config, is_partitioned(disk or image)))
    initrd = config.initrd_path
    made.append(
        resources.boot_source(
            host.provide_file(config.kernel_path, "vmlinux"),
            host.provide_file(initrd, "initrd") if initrd else "",
            arguments,
        )
    )
    if disk:
        made.append(resources.root_disk(host.provide_own_file(disk, ROOT_DRIVE)))
    elif image:
        made.append(resources.root_drive(host.provide_file(image, ROOT_DRIVE)))
    for number in range(config.placeholder_drives):
        made.append(resources.placeholder_drive(number, host.own_path(f"{PLACEHOLDER}{number}")))
    made += device_requests(vmm, devices, host)
    if vsock.has_own(config, devices, vmm.version, vmm.state.jail is not None):
        own = vsock.HybridVsock(Vsock(vsock.OWN_CID))
        made += own.requests(vmm.version, host.provide_socket(vsock.OWN_SOCKET))
    if config.entropy_device:
        made.append(Request("/entropy", {}))
    if vmm.state.region_mb:
        made.append(resources.memory_region(vmm.state.region_mb))
    made.append(Request("/actions", {"action_type": "InstanceStart"}))
    vmm.state.devices = {device_id(device): as_record(device) for device in devices}
    return made


def output_requests(vmm: Vmm, config: HypervisorConfig, host: HostResources) -> list[Request]:
    """Where Firecracker's numbers go. It is asked for before anything else, and again before a load: no snapshot keeps it."""
    made = []
    if wants_metrics(config) and not dialect_for(vmm.version).logger_fifos:
        made.append(Request("/metrics", {"metrics_path": host.own_path(METRICS)}))
    if config.console_rate_limit:
        made.append(resources.console_limit(config.console_rate_limit))
    return made


def wants_metrics(config: HypervisorConfig) -> bool:
    """Whether Firecracker's numbers are written down."""
    return config.vmm_metrics or config.debug


def device_requests(vmm: Vmm, devices: list[Device], host: HostResources) -> list[Request]:
    """The devices in their order, and then those that name others."""
    found = sorted(map(device_for, devices), key=lambda device: device.comes_last)
    return [request for device in found for request in device.requests(vmm.version, device.path(host))]
