# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which process is ours, who gets a signal, and what a log may be."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform
import signal
import socket
import stat
import subprocess
import sys
from typing import Any, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.host import processes, run_directory
from ansible_collections.kata.hypervisor.plugins.module_utils.host.sockets import (
    check_socket_place,
    listening_socket,
    remove_socket,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.host.spawn import open_log
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.vmm import Vmm
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.files import Directory
from tests.support.waiting import PATIENCE, wait_until

#: A program that locks a file as QEMU locks its pid file, says so, and stays.
HOLDER = "import fcntl, sys, time; f = open(sys.argv[2], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"


@pytest.fixture
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody's."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield child
    child.kill()
    child.wait()


def identity_of(child: subprocess.Popen[bytes]) -> processes.ProcessIdentity:
    """The identity of a process that has started its program."""
    while True:
        found = processes.identify(child.pid)
        if found is not None and os.path.realpath(sys.executable) == found.executable:
            return found


@pytest.mark.parametrize("change", [{"start_time": 1}, {"executable": "/bin/other"}, {"boot": "another boot"}])
@pytest.mark.parametrize("with_pidfd", [True, False])
def test_a_signal_goes_to_exactly_one_process(
    innocent: subprocess.Popen[bytes], change: dict[str, Any], with_pidfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    mine = identity_of(innocent)
    other = dataclasses.replace(mine, **change)
    assert (
        not other.is_alive()
        and not processes.send_signal(other, signal.SIGKILL)
        and processes.terminate(other, 0.1) == "gone"
    )
    assert innocent.poll() is None
    assert processes.ProcessIdentity.from_dict({**mine.as_dict(), "boot": ""}) == mine
    old = processes.ProcessIdentity.from_dict({name: value for name, value in mine.as_dict().items() if name != "boot"})
    assert old is not None and old.is_alive() and mine.boot
    assert processes.send_signal(old, signal.SIGKILL) and innocent.wait() == -signal.SIGKILL
    assert not processes.send_signal(mine, signal.SIGKILL)


def test_a_process_that_takes_the_pid_while_we_look_gets_no_signal(
    innocent: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the descriptor stands for is identified after it was opened."""
    mine = identity_of(innocent)
    opened: list[int] = []
    really = os.pidfd_open

    def pidfd_open(pid: int, flags: int = 0) -> int:
        opened.append(pid)
        # The pid is another process's from here on.
        monkeypatch.setattr(processes, "_start_time", lambda _pid: mine.start_time + 1)
        return really(pid, flags)

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    assert not processes.send_signal(mine, signal.SIGKILL) and opened == [innocent.pid] and innocent.poll() is None


#: A program whose first thread ends at once, and whose second holds a file and ends with its input.
LAST_THREAD = """
import ctypes, sys, threading
threading.Thread(target=lambda: (print("alone", flush=True), sys.stdin.read())).start()
ctypes.CDLL(None).syscall({number}, 0)
"""


def test_a_process_lives_as_long_as_one_of_its_threads() -> None:
    number = {"x86_64": 60, "aarch64": 93}[platform.machine()]
    child = subprocess.Popen(
        [sys.executable, "-c", LAST_THREAD.format(number=number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin and child.stdout
    identity = identity_of(child)
    assert child.stdout.readline() == b"alone\n"
    wait_until(lambda: "\nState:\tZ" in pathlib.Path(f"/proc/{child.pid}/status").read_text(), "the end of the thread")
    assert identity.is_alive() and not processes.wait_gone(identity, 0.05)
    child.stdin.close()
    assert processes.wait_gone(identity, PATIENCE) and not identity.is_alive()
    child.wait()


def test_a_process_that_gives_back_its_memory_still_has_its_files(
    innocent: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = identity_of(innocent)

    def no_program(path: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr(os, "readlink", no_program)
    assert mine.is_alive() and not dataclasses.replace(mine, start_time=1).is_alive()
    assert processes.identify(innocent.pid) is None, "it is nobody's to adopt"
    innocent.kill()
    assert processes.wait_gone(mine, PATIENCE)


def test_a_lock_or_a_pid_file_makes_no_process_ours(tmp_path: pathlib.Path) -> None:
    vm = Vmm(Context("web", str(tmp_path), str(tmp_path)))
    vm.state.uuid, vm.state.launching, vm.state.program = (
        "11111111-0000-4000-8000-000000000000",
        True,
        "/usr/bin/qemu-system-x86_64",
    )
    pidfile = tmp_path / "pid"
    pidfile.write_text("1\n")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "-pidfile", str(pidfile), vm.state.uuid], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with Directory.open(str(tmp_path)) as directory:
            assert processes.lock_owner(directory, "pid") == holder.pid
        assert vm.process() is None  # Even with the words of its command line: it runs another program.
        vm.kill()
        assert holder.poll() is None and not pidfile.exists()
        vm.state.program = os.path.realpath(sys.executable)
        vm.state.launching = True
        found = vm.process()
        assert found is not None and found.pid == holder.pid
    finally:
        holder.kill()
        holder.wait()


def test_a_pid_file_that_is_none_holds_nobody_up(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pid")
    (tmp_path / "link").symlink_to("/etc/passwd")
    with Directory.open(str(tmp_path)) as directory:
        assert [processes.lock_owner(directory, name) for name in ("pid", "link", "gone")] == [0, 0, 0]


def test_logs(tmp_path: pathlib.Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    (tmp_path / "link").symlink_to(secret)
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo"):
        assert processes.tail(str(tmp_path / name)) == ""
        with pytest.raises(OSError, match="must be a regular file"):
            open_log(str(tmp_path / name))
    before = os.umask(0)
    try:
        os.close(open_log(str(tmp_path / "log")))
        run_directory.make_run_dir(str(tmp_path / "run" / "web"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run", tmp_path / "run" / "web")] == [
        0o755,
        0o700,
    ]
    with open(open_log(str(tmp_path / "log")), "w", encoding="utf-8") as stream:
        stream.write("one\ntwo\n")
    assert processes.tail(str(tmp_path / "log"), 1) == "two" and secret.read_text() == "secret\n"


def test_a_socket_takes_nobodys_place(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.sock"
    before = os.umask(0)
    try:
        first = listening_socket(str(path), ours=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    with pytest.raises(HostError, match="there is a socket that is not this sandbox's"):
        listening_socket(str(path), ours=False, option="devices")
    listening_socket(str(path)).close()
    first.close()
    remove_socket(str(path))
    remove_socket(str(path))
    assert not path.exists()
    for make, words in (
        (lambda: path.write_text("data"), "a regular file"),
        (lambda: path.symlink_to("/etc/passwd"), "a symbolic link"),
        (path.mkdir, "a directory"),
    ):
        make()
        for ours in (True, False):
            with pytest.raises(HostError, match=words):
                check_socket_place(str(path), ours)
            with pytest.raises(HostError, match=words):
                listening_socket(str(path), ours)
        remove_socket(str(path))
        assert os.path.lexists(path)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
