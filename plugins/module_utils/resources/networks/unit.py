# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd does for a network: a unit that sets it up at boot, and supervision of its dnsmasq.

The unit of the boot runs a program of this collection that needs nothing of Ansible. dnsmasq runs in a transient unit, so it outlives the task,
and systemd starts it again if it fails.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys

from ...delivery.boot_program import NETWORK_ENTRY, NETWORK_PROGRAM, program_bytes, program_path
from ...errors import HostError
from ...host.atomic_files import ensure_directory, make_directories, replace_file, sync
from ...host.programs import Ended, run
from ...host.systemd import has_systemd, unit_quoted
from ...records.record import COLLECTION_VERSION
from .definition import Network

UNIT_DIRECTORY = "/etc/systemd/system"
WANTED_BY = "multi-user.target"
#: Seconds to wait for systemd.
SECONDS = 60.0

_UNIT = """\
# Network {name}. The Ansible collection kata.hypervisor {version} writes this file.
[Unit]
Description=Network {name} of sandboxes
Wants=network.target
After=network.target nftables.service firewalld.service systemd-resolved.service
RequiresMountsFor="{state_root}"

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={program} {arguments}
TimeoutStartSec=120

[Install]
WantedBy={wanted_by}
"""


def unit_text(network: Network) -> str:
    """The content of the unit's file."""
    words = [network.name, network.state_root]
    program = program_path(network.state_root, NETWORK_ENTRY, NETWORK_PROGRAM)
    return _UNIT.format(
        name=network.name,
        version=COLLECTION_VERSION,
        state_root=unit_quoted(network.state_root),
        program=f'"{unit_quoted(sys.executable)}" -I "{unit_quoted(program)}"',
        arguments=" ".join(f'"{unit_quoted(word)}"' for word in words),
        wanted_by=WANTED_BY,
    )


def _path(network: Network) -> str:
    return os.path.join(UNIT_DIRECTORY, network.unit)


def _link(network: Network) -> str:
    return os.path.join(UNIT_DIRECTORY, f"{WANTED_BY}.wants", network.unit)


def differences(network: Network) -> list[str]:
    """Whether the unit must be written, in words. Reads only."""
    if not has_systemd():
        return []
    program = program_path(network.state_root, NETWORK_ENTRY, NETWORK_PROGRAM)
    in_place = os.path.isfile(program) and os.path.realpath(_link(network)) == _path(network)
    return [] if in_place and _content(_path(network)) == unit_text(network).encode() else [f"unit {network.unit}"]


def install(network: Network) -> list[str]:
    """Write and enable the unit, if systemd is the host's init system. Idempotent. The caller holds the lock of networks.

    :returns: what was changed, in words
    :raises HostError: a file cannot be written, or systemd refuses
    """
    changed = differences(network)
    if not changed:
        return []
    try:
        program = program_path(network.state_root, NETWORK_ENTRY, NETWORK_PROGRAM)
        for path, data in ((program, program_bytes(NETWORK_ENTRY)), (_path(network), unit_text(network).encode())):
            if _content(path) != data:
                ensure_directory(os.path.dirname(path))
                replace_file(path, data)
        make_directories(os.path.dirname(_link(network)))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_link(network))
        os.symlink(_path(network), _link(network))
        sync(os.path.dirname(_link(network)))
        _drop_unused_programs(network.state_root)
    except OSError as problem:
        raise HostError("the network's unit cannot be created", option="name", answer=str(problem)) from problem
    _systemctl("daemon-reload")
    return changed


def mark_started(network: Network) -> None:
    """Make systemd know that the network is up, for units that start after it. The caller does not hold the lock of networks.

    :raises HostError: systemd refuses
    """
    if has_systemd():
        _systemctl("start", network.unit)


def remove(network: Network) -> None:
    """Remove the unit. Idempotent. The caller holds the lock of networks.

    :raises HostError: a file cannot be removed
    """
    existed = os.path.lexists(_path(network)) or os.path.lexists(_link(network))
    try:
        for path in (_link(network), _path(network)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        _drop_unused_programs(network.state_root)
    except OSError as problem:
        raise HostError("the network's unit cannot be removed", option="name", answer=str(problem)) from problem
    if has_systemd() and existed:
        _systemctl("daemon-reload")
        with contextlib.suppress(HostError):
            _systemctl("stop", network.unit)


def _drop_unused_programs(state_root: str) -> None:
    """Remove versions of the program that no unit uses."""
    library = os.path.join(state_root, "lib")
    units = b""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(UNIT_DIRECTORY):
            if name.startswith("kata-network@"):
                units += _content(os.path.join(UNIT_DIRECTORY, name))
    with contextlib.suppress(FileNotFoundError):
        for version in os.listdir(library):
            program = os.path.join(library, version, NETWORK_PROGRAM)
            if os.path.isfile(program) and f"/{version}/{NETWORK_PROGRAM}".encode() not in units:
                shutil.rmtree(os.path.join(library, version))
        if not os.listdir(library):
            os.rmdir(library)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def _systemctl(*words: str) -> None:
    ended = run(["systemctl", "--no-ask-password", *words], SECONDS)
    if ended.code:
        raise HostError(f"'systemctl {' '.join(words)}' failed", option="name", answer=ended.words)


# --- dnsmasq ---------------------------------------------------------------------------------------------------------


def _service(network: Network) -> str:
    return f"kata-network-{network.key}-dnsmasq.service"


def run_dnsmasq(network: Network, argv: list[str]) -> Ended:
    """Start dnsmasq in a unit of its own. It returns when dnsmasq answers."""
    properties = ("Type=forking", f"PIDFile={network.run_directory}/dnsmasq.pid", "Restart=on-failure", "RestartSec=1")
    return run(
        [
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={_service(network)}",
            f"--description=DNS and DHCP of the network {network.name} of sandboxes",
            *(f"--property={one}" for one in properties),
            "--",
            *argv,
        ],
        SECONDS,
    )


def stop_dnsmasq(network: Network) -> None:
    """Stop the unit of dnsmasq. Idempotent."""
    with contextlib.suppress(HostError):
        _systemctl("stop", _service(network))
    with contextlib.suppress(HostError):
        _systemctl("reset-failed", _service(network))


def dnsmasq_log(network: Network) -> str:
    """The last lines that dnsmasq logged."""
    try:
        return run(
            ["journalctl", "--no-pager", "-q", "-o", "cat", "-n", "5", "-u", _service(network)], SECONDS
        ).text.strip()
    except HostError:
        return ""
