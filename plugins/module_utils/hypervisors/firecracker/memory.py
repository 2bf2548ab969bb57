# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of a VM that runs: plugged into and out of its region, or held by its balloon, as far as the guest goes along."""

from __future__ import annotations

import time
from typing import Callable

from ...errors import ConfigError, Unsupported, VmmError
from ...options.device_kinds.balloon import Balloon
from ..base import MemoryResize
from . import requests
from .api import dialect
from .api.client import ApiError
from .vmm import Vmm

#: Seconds without any progress after which a guest is taken not to go along.
PATIENCE_SECONDS = 10.0
POLL = 0.05


def resize(vmm: Vmm, memory_mb: int) -> MemoryResize:
    """Bring the VM's memory to a size, or as near to it as the guest goes; the result says how much it really has.

    :raises Unsupported: this version, or this VM, has no memory that can be plugged
    :raises ConfigError: the size is out of the VM's range
    :raises ApiError: Firecracker refused, as it does until the guest's virtio-mem driver runs
    """
    api, state = vmm.api(), vmm.state
    dialect.require_endpoint(vmm.version, "PATCH", "/hotplug/memory", "memory hotplug", "memory_mb", memory_mb)
    if not state.region_mb:
        raise Unsupported(
            "this VM was started without room for more memory",
            option="memory_mb",
            wanted=memory_mb,
            fix="Give max_memory_mb, which needs a restart (disruption: restart).",
        )
    if not state.boot_memory_mb <= memory_mb <= state.boot_memory_mb + state.region_mb:
        raise ConfigError(
            f"this VM can have {state.boot_memory_mb} to {state.boot_memory_mb + state.region_mb} MiB while it runs",
            option="memory_mb",
            wanted=memory_mb,
            fix="Restart it with the size that is wanted (disruption: restart).",
        )
    old = vmm.plugged_memory_mb(api)
    wanted = -(-(memory_mb - state.boot_memory_mb) // requests.BLOCK_MB) * requests.BLOCK_MB
    try:
        api.patch("/hotplug/memory", {"requested_size_mib": wanted})
    except ApiError as error:
        error.option, error.wanted = "memory_mb", memory_mb
        error.fix = "The guest needs a kernel with virtio-mem (5.16 or later) that has booted."
        raise
    now = _settled(lambda: vmm.plugged_memory_mb(vmm.api()), old, wanted)
    return MemoryResize(
        state.boot_memory_mb + old, state.boot_memory_mb + now, "virtio-mem" if old != wanted else "none"
    )


def resize_balloon(vmm: Vmm, balloon: Balloon) -> None:
    """Bring a balloon to its size and its interval.

    :raises Unsupported: its statistics cannot be switched on or off while the VM runs
    :raises ApiError: Firecracker refused, as it does until the guest's balloon driver runs
    :raises VmmError: the guest does not give, or take back, all of it
    """
    api = vmm.api()
    now = api.get("/balloon")
    seconds = int(now.get("stats_polling_interval_s") or 0)
    if bool(seconds) != bool(balloon.stats_seconds):
        raise Unsupported(
            "a balloon's statistics cannot be switched on or off while the VM runs",
            option="stats_seconds",
            wanted=balloon.stats_seconds,
            fix="Restart the sandbox (disruption: restart).",
        )
    word = dialect.balloon_word(vmm.version)
    try:
        if balloon.stats_seconds != seconds:
            api.patch("/balloon/statistics", {"stats_polling_interval_s": balloon.stats_seconds})
        if balloon.size_mb != now.get(word):
            api.patch("/balloon", {word: balloon.size_mb})
    except ApiError as error:
        error.option, error.wanted = "size_mb", balloon.size_mb
        error.fix = (
            "The guest needs a kernel with virtio-balloon that has booted, and more memory than the balloon shall hold."
        )
        raise
    if not balloon.stats_seconds:
        return  # Nobody can tell what it holds.
    taken = _settled(lambda: balloon_size(vmm), balloon_size(vmm), balloon.size_mb)
    if taken != balloon.size_mb:
        raise VmmError(
            f"the balloon holds {taken} MiB",
            option="size_mb",
            wanted=balloon.size_mb,
            log=vmm.log,
            fix="The guest may need its memory; run the task again, or ask for less.",
        )


def balloon_size(vmm: Vmm) -> int:
    """MiB that a balloon with statistics really holds."""
    return int(vmm.api().get("/balloon/statistics").get("actual_mib") or 0)


def _settled(read: Callable[[], int], now: int, wanted: int) -> int:
    """The MiB that there are once they are what is wanted, or do not change any more."""
    moved = time.monotonic()
    while now != wanted and time.monotonic() - moved < PATIENCE_SECONDS:
        time.sleep(POLL)
        before, now = now, read()
        if now != before:
            moved = time.monotonic()
    return now
