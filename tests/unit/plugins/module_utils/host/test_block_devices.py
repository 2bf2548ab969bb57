# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file has one writer: whoever has it open is found, by whatever name, and two tasks do not pass at the same time."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import threading
import time
from typing import Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, StateError
from ansible_collections.kata.hypervisor.plugins.module_utils.host import block_devices
from ansible_collections.kata.hypervisor.plugins.module_utils.host.block_devices import Use


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> str:
    (tmp_path / "disk").write_bytes(bytes(4096))
    os.symlink("disk", tmp_path / "symlink")
    os.link(tmp_path / "disk", tmp_path / "hardlink")
    return str(tmp_path / "disk")


@pytest.fixture(params=["firecracker", "something"])
def program(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> str:
    """A program that opens a file, under a VMM's name and under another."""
    path = tmp_path / str(request.param)
    path.write_text("import os, sys, time\nos.open(sys.argv[1], int(sys.argv[2]))\nprint(flush=True)\ntime.sleep(60)\n")
    return str(path)


@pytest.fixture
def opened(program: str, disk: str) -> Iterator[object]:
    children: list[subprocess.Popen[bytes]] = []

    def start(flags: int) -> int:
        child = subprocess.Popen(
            [sys.executable, program, disk, str(flags), "--id", "web-1", "--api-sock", "/run/kata/web-1/api.sock"],
            stdout=subprocess.PIPE,
        )
        children.append(child)
        assert child.stdout is not None
        child.stdout.readline()
        return child.pid

    yield start
    for child in children:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("name", ["disk", "symlink", "hardlink"])
def test_a_writer_is_found_by_any_name(
    opened: object, program: str, disk: str, tmp_path: pathlib.Path, name: str
) -> None:
    path = str(tmp_path / name)
    block_devices.check_free(Use(path, True, "d"))
    pid = opened(os.O_RDWR)  # type: ignore[operator]
    for writes in (True, False):
        with pytest.raises(StateError, match=rf"is in use: .*pid {pid}\) writes to it") as caught:
            block_devices.check_free(Use(path, writes, "d"))
        assert caught.value.wanted == path and ("sandbox web-1 (firecracker" in str(caught.value)) == program.endswith(
            "firecracker"
        )
    block_devices.check_free(Use(path, True, "d"), own=(pid,))


def test_a_reader_counts_where_it_is_a_vmm(opened: object, program: str, disk: str) -> None:
    opened(os.O_RDONLY)  # type: ignore[operator]
    block_devices.check_free(Use(disk, False, "d"))
    if program.endswith("firecracker"):
        with pytest.raises(StateError, match="reads it"):
            block_devices.check_free(Use(disk, True, "d"))
    else:
        block_devices.check_free(Use(disk, True, "d"))  # A backup, such as that of a stopped guest.


def test_a_vm_has_no_file_twice(disk: str, tmp_path: pathlib.Path) -> None:
    for name in ("disk", "symlink", "hardlink"):
        both = [Use(disk, True, "one"), Use(str(tmp_path / name), False, "two")]
        for uses in (both, both[::-1]):
            with pytest.raises(ConfigError, match="must not be the same file"):
                block_devices.check_distinct(uses)
        block_devices.check_distinct([Use(disk, False, "one"), Use(str(tmp_path / name), False, "two")])
    block_devices.check_distinct([Use(disk, True, "one"), Use("/nowhere", True, "two"), Use("/nowhere", True, "three")])


def test_two_tasks_do_not_pass_at_the_same_time(
    disk: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looks, and opens the file later; without a lock both would find it free."""
    inside, most = 0, 0
    guard = threading.Lock()

    def task(name: str) -> None:
        nonlocal inside, most
        with block_devices.claimed([Use(str(tmp_path / name), True, name)]):
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.05)
            with guard:
                inside -= 1

    threads = [threading.Thread(target=task, args=(name,)) for name in ("disk", "symlink", "hardlink") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)
    monkeypatch.setattr(block_devices, "CLAIM_SECONDS", 0.1)
    with (
        block_devices.claimed([Use(disk, True, "d")]),
        pytest.raises(StateError, match="another task"),
        block_devices.claimed([Use(disk, False, "d")]),
    ):
        pass
    with block_devices.claimed([Use(disk, False, "d")]), block_devices.claimed([Use(disk, False, "d")]):
        pass


def test_no_lease_is_left_and_nobody_is_signalled(disk: str) -> None:
    """Who opens the file while it is looked at is not kept from it, and this process does not end by that."""
    over = threading.Event()

    def open_it() -> None:
        while not over.is_set():
            os.close(os.open(disk, os.O_RDWR))

    thread = threading.Thread(target=open_it)
    thread.start()
    for _look in range(300):
        block_devices._surely_free(Use(disk, True, "d"), -1)
        block_devices._surely_free(Use(disk, False, "d"), -1)
    over.set()
    thread.join()
    assert block_devices._surely_free(Use(disk, True, "d"), -1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make loop devices")
def test_a_loop_device_is_the_file_behind_it(disk: str) -> None:
    made = subprocess.run(["losetup", "--find", "--show", disk], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"there are no loop devices here: {made.stderr}")
    loop = made.stdout.strip()
    try:
        with pytest.raises(ConfigError, match="must not be the same file"):
            block_devices.check_distinct([Use(disk, True, "a"), Use(loop, False, "b")])
        child = subprocess.Popen(
            [sys.executable, "-c", f"import time; f = open({disk!r}, 'r+b'); print(flush=True); time.sleep(60)"],
            stdout=subprocess.PIPE,
        )
        try:
            assert child.stdout is not None
            child.stdout.readline()
            with pytest.raises(StateError, match=f"pid {child.pid}.*writes to it"):
                block_devices.check_free(Use(loop, False, "b"))
        finally:
            child.kill()
            child.communicate()
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
