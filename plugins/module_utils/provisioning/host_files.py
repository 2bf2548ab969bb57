# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration files of a prepared host, as values: which ones it has, and what is in them."""

from __future__ import annotations

import dataclasses
import inspect

from ..host import console_logs

MODULES = "/etc/modules-load.d/kata-hypervisor.conf"
HUGE_PAGES = "/etc/sysctl.d/60-kata-hypervisor.conf"
UDEV_RULES = "/etc/udev/rules.d"
KVM_RULE = f"{UDEV_RULES}/65-kata-hypervisor.rules"
UNITS = "/etc/systemd/system"
SLICE = "kata.slice"
BRIDGE = "kata-bridge.service"
TRIMMER_SERVICE = "kata-console-logs.service"
TRIMMER_TIMER = "kata-console-logs.timer"
TRIMMER_DIRECTORY = "/usr/local/lib/kata-hypervisor"
TRIMMER_PROGRAM = f"{TRIMMER_DIRECTORY}/cut_console_logs.py"

_MANAGED = "# Managed by the role kata.hypervisor.kata_host.\n"


@dataclasses.dataclass(frozen=True)
class HostSettings:
    """What a host gets; the options of the module `kata_host`."""

    state_dir: str
    run_dir: str
    modules: tuple[str, ...] = ()
    kvm_group: str = "kvm"
    vmm_user: str = ""
    hugepages: int = -1
    slice_properties: tuple[str, ...] = ()
    bridge: str = ""
    bridge_address: str = ""
    bridge_mac: str = ""
    console_log_mb: int = 0


def host_files(settings: HostSettings, systemd: bool, udev: bool) -> dict[str, str | None]:
    """The content of each file by path; None for a file that must not exist. A file that is not named stays as it is.

    :param systemd: whether systemd runs on the host
    :param udev: whether the host has udev
    """
    files: dict[str, str | None] = {MODULES: _MANAGED + "".join(f"{name}\n" for name in settings.modules)}
    if udev:
        files[KVM_RULE] = f'{_MANAGED}KERNEL=="kvm", GROUP="{settings.kvm_group}", MODE="0660"\n'
    if settings.hugepages >= 0:
        files[HUGE_PAGES] = f"{_MANAGED}vm.nr_hugepages = {settings.hugepages}\n"
    if settings.slice_properties:
        properties = "".join(f"{line}\n" for line in settings.slice_properties)
        files[f"{UNITS}/{SLICE}"] = f"{_MANAGED}[Unit]\nDescription=VM sandboxes\n\n[Slice]\n{properties}"
    if settings.bridge:
        files[f"{UNITS}/{BRIDGE}"] = _bridge_unit(settings)
    if settings.console_log_mb == 0:
        files |= _trimmer_files(None)
    elif systemd:
        files |= _trimmer_files(settings)
    return files


def absent_files() -> dict[str, str | None]:
    """All files that `host_files` can name, none of which must exist."""
    units = dict.fromkeys((f"{UNITS}/{SLICE}", f"{UNITS}/{BRIDGE}"))
    return {MODULES: None, HUGE_PAGES: None, KVM_RULE: None, **units, **_trimmer_files(None)}


def enabled_units(settings: HostSettings, systemd: bool) -> list[str]:
    """The units that run now and after each boot."""
    trimmer = [TRIMMER_TIMER] if systemd and settings.console_log_mb > 0 else []
    return trimmer + ([BRIDGE] if settings.bridge else [])


def _bridge_unit(settings: HostSettings) -> str:
    name = settings.bridge
    address = f"ExecStart=ip address replace {settings.bridge_address} dev {name}\n" if settings.bridge_address else ""
    return (
        f"{_MANAGED}[Unit]\nDescription=Bridge {name} for VM sandboxes\nBefore=network.target\n\n"
        f"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=-ip link add name {name} type bridge\n"
        "# Without a fixed address, a bridge takes the lowest address of its ports. It would change when sandboxes start and stop, "
        "and guests would lose their gateway.\n"
        f"ExecStart=ip link set dev {name} address {settings.bridge_mac}\n{address}"
        f"ExecStart=ip link set dev {name} up\nExecStop=ip link delete dev {name} type bridge\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def _trimmer_files(settings: HostSettings | None) -> dict[str, str | None]:
    paths = (TRIMMER_PROGRAM, f"{UNITS}/{TRIMMER_SERVICE}", f"{UNITS}/{TRIMMER_TIMER}")
    if settings is None:
        return dict.fromkeys(paths)
    service = (
        f"{_MANAGED}[Unit]\nDescription=Trim the console logs of VM sandboxes\n\n[Service]\nType=oneshot\n"
        f'ExecStart=/usr/bin/python3 -I {TRIMMER_PROGRAM} {settings.console_log_mb} "{settings.run_dir}"\n'
        "# The service runs often, so only its errors go into the journal.\n"
        "LogLevelMax=notice\nCapabilityBoundingSet=CAP_DAC_OVERRIDE\n"
    )
    timer = (
        f"{_MANAGED}[Unit]\nDescription=Trim the console logs of VM sandboxes twice a minute\n\n"
        "[Timer]\nOnCalendar=*:*:00/30\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n"
    )
    return dict(zip(paths, (inspect.getsource(console_logs), service, timer)))
