# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The console's log on real QEMU, cut by what role kata_host lays while the guest prints without end."""

from __future__ import annotations

import importlib.util
import pathlib
import re
import threading

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded
from tests.support.qemu_lab import QemuLab
from tests.support.waiting import PATIENCE, wait_until

PROGRAM = pathlib.Path(__file__).resolve().parents[3] / "plugins/module_utils/host/console_logs.py"
LIMIT = 2 << 20
#: Prints numbered lines of 200 characters to the console until a file is gone, and then that it is over.
FLOOD = (
    "touch /flood; fill=$(head -c 180 /dev/zero | tr '\\0' .); "
    '(n=1000000; while [ -e /flood ]; do n=$((n + 1)); echo "flood $n $fill"; done; echo flood is over) >/dev/ttyS0 2>&1 &'
)


def cut(path: pathlib.Path) -> bool:
    """As the role's program does it."""
    spec = importlib.util.spec_from_file_location("cut_console_logs", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return bool(module.cut(str(path), LIMIT))


def grown_beyond(log: pathlib.Path, size: int) -> None:
    wait_until(lambda: log.stat().st_size > size, f"more than {size} bytes from the guest")


def numbers(log: pathlib.Path) -> list[int]:
    """Those of the whole lines of the flood in a log, in its order."""
    return [int(number) for number in re.findall(rb"(?m)^flood (\d{7}) \.{180}\r?$", log.read_bytes())]


def flooded_log(lab: QemuLab) -> pathlib.Path:
    """The log of a new sandbox, too long, while its guest prints on."""
    lab.start()
    guest = lab.shell()
    guest.run(FLOOD + " true")
    guest.close()
    log: pathlib.Path = lab.run_path("console.log")
    grown_beyond(log, LIMIT)
    return log


def test_a_log_is_cut_while_its_guest_prints_without_end(lab: QemuLab) -> None:
    log = flooded_log(lab)
    inode = log.stat().st_ino
    assert cut(log)
    assert log.stat().st_size < LIMIT
    first = numbers(log)
    assert len(first) > 4000 and first[0] > 1000000
    assert all(after > before for before, after in zip(first, first[1:]))

    # New words are found while the log is cut again and again.
    stop, sizes = threading.Event(), []

    def cutting() -> None:
        while not stop.wait(0.02):
            if cut(log):
                sizes.append(log.stat().st_size)

    cutter = threading.Thread(target=cutting)
    cutter.start()
    try:
        wanted = first[-1] + 15000
        lab.run(wait_for={"console": f"flood {wanted // 1000}", "timeout": PATIENCE})
    finally:
        stop.set()
        cutter.join()
    assert len(sizes) >= 2 and max(sizes) < LIMIT
    assert log.stat().st_ino == inode
    later = numbers(log)
    assert later[-1] >= wanted // 1000 * 1000 and later[0] > first[0]
    assert all(after > before for before, after in zip(later, later[1:]))

    guest = lab.shell()
    guest.run("rm /flood")
    guest.close()
    over = lab.run(wait_for={"console": "flood is over", "timeout": PATIENCE})
    assert over["changed"] is False and over["sandbox"]["state"] == "started"
    with pytest.raises(DeadlineExceeded) as late:
        lab.run(wait_for={"console": "never printed", "timeout": 1})
    assert "flood is over" in late.value.answer


def test_a_sandbox_of_which_the_log_was_cut_goes_on_as_any_other(lab: QemuLab) -> None:
    log = flooded_log(lab)
    assert cut(log)

    # Saved and restored in the midst of it: what is printed then is in a log of its own.
    lab.run(state="saved")
    restored = lab.run(state="started", wait_for={"console": r"flood \d{7} \.+", "timeout": PATIENCE})
    assert "restore" in " ".join(restored["actions"])
    grown_beyond(log, LIMIT)
    assert cut(log)
    assert lab.facts()["state"] == "started"

    again = lab.run(state="restarted", stop_timeout=1, wait_for={"console": "kata-guest: ready", "timeout": PATIENCE})
    assert again["sandbox"]["state"] == "started"
    assert numbers(log) == []
    assert numbers(pathlib.Path(f"{log}.old"))
