# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data channel against its real loop, which runs here in each shell that this machine has; only the way to start it is the test's own."""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import random
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Callable

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, DeadlineExceeded, VmmError
from ansible_collections.kata.hypervisor.plugins.module_utils.guest import channel as channel_module
from ansible_collections.kata.hypervisor.plugins.module_utils.guest import channel_program
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.channel import Channel, CommandTimeout, ScriptFailed
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.channel_answer import (
    ChannelError,
    CommandAnswer,
    Greeting,
    Marker,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.channel_program import (
    DIRECTORY,
    END,
    MAX_COMMAND,
    START,
    request_line,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.ways import PIPES, GuestWays, Way

SHELLS = [shell for shell in ("/bin/dash", "/bin/bash", "/bin/busybox") if os.path.exists(shell)]


class Guest:
    """A directory that stands for a guest: pipes, and a loop that runs on this machine."""

    def __init__(self, directory: pathlib.Path, shell: str) -> None:
        self.directory = directory
        self.shell = [shell, "sh"] if shell.endswith("busybox") else [shell]
        self.ways = GuestWays(None, tuple(Way(PIPES, str(directory / f"port-{n}"), f"port.{n}") for n in range(2)))
        self.loops: list[subprocess.Popen[bytes]] = []
        self.started = 0
        # QEMU holds both pipes of a port open for reading and writing.
        self.held = []
        for way in self.ways.channels:
            for ending in (".in", ".out"):
                os.mkfifo(way.path + ending)
                self.held.append(os.open(way.path + ending, os.O_RDWR))

    def agent(self, script: str) -> None:
        """What an agent would run: a start script's loop, by the test; the rest as it is, with the directory of the test."""
        token = re.search(r"^token=(\w+)$", script, re.MULTILINE)
        script = script.replace("/run /tmp", shlex.quote(str(self.directory)))
        if not token:
            if subprocess.run([*self.shell, "-s"], input=script.encode(), check=False).returncode:
                raise ScriptFailed("the script failed")
            return
        self.started += 1
        [name] = re.findall(r"^name=(\S+)$", script, re.MULTILINE)
        [loop] = re.findall(r"^loop='\n(.*?)^'$", script, re.MULTILINE | re.DOTALL)
        files = self.directory / "kata-channel"
        files.mkdir(exist_ok=True)
        program = files / f"{name}.sh"
        program.write_text(f"token={token[1]} directory={files}\n" + loop.replace("'\"'\"'", "'"))
        path = next(way.path for way in self.ways.channels if way.name == name)
        with open(path + ".in", "rb+", 0) as source, open(path + ".out", "rb+", 0) as target:
            self.loops.append(
                subprocess.Popen([*self.shell, str(program)], stdin=source, stdout=target, start_new_session=True)
            )

    def channel(self, timeout: float = 60) -> Channel:
        return Channel(str(self.directory), self.ways, self.agent, timeout)

    def run(self, command: str, stdin: bytes = b"", **more: float) -> tuple[int, bytes, bytes]:
        with self.channel() as channel:
            return run(channel, command, stdin, **more)

    def close(self) -> None:
        for loop in self.loops:
            with_group = loop.pid
            try:
                os.killpg(with_group, signal.SIGKILL)
            except ProcessLookupError:
                pass
            loop.wait()
        for descriptor in self.held:
            os.close(descriptor)


def run(channel: Channel, command: str, stdin: bytes = b"", **more: float) -> tuple[int, bytes, bytes]:
    output, errors = bytearray(), bytearray()
    code = channel.run(command.encode(), io.BytesIO(stdin), len(stdin), output.extend, errors.extend, **more)
    return code, bytes(output), bytes(errors)


@pytest.fixture(params=SHELLS, ids=[os.path.basename(shell) for shell in SHELLS])
def guest(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Guest]:
    made = Guest(tmp_path, request.param)
    yield made
    made.close()


def test_exit_codes_and_both_outputs(guest: Guest) -> None:
    assert guest.run("echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
    assert guest.run("printf 'no newline'") == (0, b"no newline", b"")
    assert guest.run("kill -9 $$")[0] == 137
    assert guest.run("nothing-of-this-name")[0] == 127
    # One loop ran all of them.
    assert guest.started == 1


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 3_000_001])
def test_bytes_of_any_kind_go_in_and_out(guest: Guest, size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert guest.run("cat", data) == (0, data, b"")
    code, output, errors = guest.run("tee /dev/stderr | sha256sum", data)
    assert (code, errors) == (0, data)
    assert output.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_any_character_of_a_command(guest: Guest) -> None:
    text = "".join(chr(code) for code in range(1, 256)) + "\\n \\\\ \\c \\0 %s %% 'x' \"y\" $HOME `z`\n\n"
    assert guest.run(f"printf %s {shlex.quote(text)}") == (0, text.encode(), b"")


def test_standard_input_that_nobody_reads_is_not_taken_for_a_request(guest: Guest) -> None:
    data = b"TOKEN run x 0 touch /nothing\n" * 50_000
    assert guest.run("true", data) == (0, b"", b"")
    assert guest.run("head -c 5", data) == (0, data[:5], b"")
    assert guest.run("cat") == (0, b"", b"")
    assert guest.started == 1


def test_what_a_command_leaves_running_does_not_disturb_the_next(guest: Guest) -> None:
    stop = guest.directory / "stop"
    command = f"while [ ! -e {stop} ]; do echo late; done & echo first"
    with guest.channel() as channel:
        code, output, errors = run(channel, command)
        assert (code, output.replace(b"late\n", b""), errors) == (0, b"first\n", b"")
        for _round in range(5):
            assert run(channel, "echo next") == (0, b"next\n", b"")
    stop.touch()


def test_errors_that_a_command_prints_when_it_has_ended_are_not_those_of_the_next(guest: Guest) -> None:
    stop = guest.directory / "stop"
    with guest.channel() as channel:
        run(channel, f"while [ ! -e {stop} ]; do echo late >&2; done >/dev/null &")
        for _round in range(5):
            assert run(channel, "sleep 0.05; echo next") == (0, b"next\n", b"")
    stop.touch()


def test_a_channel_is_used_again_after_a_command_that_was_ended(guest: Guest) -> None:
    """What cleans up after a failure runs commands too."""
    asked: list[str] = []
    with guest.channel() as channel:
        with pytest.raises(ChannelError, match="2 are missing"):
            channel.run(b"cat", io.BytesIO(b"abc"), 5)
        channel._check_alive = lambda: asked.append("alive")  # type: ignore[method-assign]
        assert run(channel, "echo cleaned") == (0, b"cleaned\n", b"")
    assert not asked
    assert guest.run("echo next") == (0, b"next\n", b"")


def launched(directory: pathlib.Path, values: str, command: str) -> None:
    """Run the start script's common part with a command of the test's."""
    script = f"name=x token=t loop=true {values}\n{END}{DIRECTORY}{START}{command}"
    script = script.replace("/run /tmp", shlex.quote(str(directory)))
    subprocess.run(["/bin/sh", "-s"], input=script.encode(), check=True)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_what_commands_create_has_the_usual_mode(tmp_path: pathlib.Path) -> None:
    mask = tmp_path / "mask"
    launched(tmp_path, "record_pid=", f"launch /bin/sh -c 'umask >{mask}.new; mv {mask}.new {mask}'")
    assert eventually(mask.exists)
    assert int(mask.read_text(), 8) == 0o022
    assert (tmp_path / "kata-channel" / "x.sh").stat().st_mode & 0o777 == 0o600


def test_a_new_listener_leaves_the_commands_of_other_connections_alone(tmp_path: pathlib.Path) -> None:
    files = tmp_path / "kata-channel"
    files.mkdir()
    program = "sleep 1000 & echo $! >child.new; mv child.new child; wait\n"
    (files / "x.sh").write_text(program)
    listener = subprocess.Popen(["/bin/sh", str(files / "x.sh")], cwd=tmp_path, start_new_session=True)
    try:
        assert eventually((tmp_path / "child").exists)
        being_read = (files / "x.sh").open()
        (files / "x.pid").write_text(f"{listener.pid}\n")
        launched(tmp_path, "record_pid=", ":")
        assert listener.wait() == -signal.SIGKILL
        child = (tmp_path / "child").read_text().strip()
        assert pathlib.Path(f"/proc/{child}/stat").read_text().split()[2] == "S"
        with being_read:
            assert being_read.read() == program
    finally:
        os.killpg(listener.pid, signal.SIGKILL)


def test_environment_of_a_command(guest: Guest) -> None:
    assert guest.run("echo ${token-} ${directory-}; ls /proc/self/fd | wc -l") == (0, b"\n4\n", b"")


def test_a_command_that_takes_too_long_is_ended_with_its_children(guest: Guest) -> None:
    pid = guest.directory / "pid"
    with pytest.raises(DeadlineExceeded):
        guest.run(f"sh -c 'sleep 1000 & echo $! > {pid}; wait'", timeout=2)
    child = pathlib.Path(f"/proc/{pid.read_text().strip()}/stat")
    deadline = time.monotonic() + 60
    while child.exists() and ") Z" not in child.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.exists() or ") Z" in child.read_text()
    assert guest.run("echo again") == (0, b"again\n", b"")
    assert not list((guest.directory / "kata-channel").glob("*.err.*"))


def test_a_limit_for_every_command_of_a_channel(guest: Guest) -> None:
    with guest.channel() as channel:
        channel.time_limit = 1
        with pytest.raises(CommandTimeout):
            run(channel, "sleep 1000")
        assert run(channel, "echo again") == (0, b"again\n", b"")


def test_a_command_that_is_ended_before_it_began_never_begins(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, held = guest.directory / "slow-mkfifo", guest.directory / "held"
    slow.write_text(f'#!/bin/sh\nwhile [ -e {held} ]; do sleep 0.01; done\nexec mkfifo "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(channel_program, "LOOP", channel_program.LOOP.replace("mkfifo", str(slow)))
    with guest.channel() as channel:
        # What it leaves holds its output, so the loop makes a new pipe before the next command.
        run(channel, "setsid sleep 60 &")
        held.touch()
        with pytest.raises(CommandTimeout):
            run(channel, f"touch {guest.directory}/began", timeout=1)
    [loop] = guest.loops
    assert loop.wait(60) == -signal.SIGKILL
    held.unlink()
    assert not (guest.directory / "began").exists()


def test_children_are_found_without_the_kernels_list_of_them(guest: Guest) -> None:
    pid = guest.directory / "pid"
    old = END.replace("/task/$1/children", "/task/$1/nothing")
    assert old != END
    script = f"{old}\nsh -c 'sh -c \"echo \\$\\$ >{pid}; sleep 1000; :\"; :' & while [ ! -s {pid} ]; do :; done; end $!"
    subprocess.run([*guest.shell, "-c", script], check=True)
    deadline = time.monotonic() + 60
    child = pathlib.Path(f"/proc/{pid.read_text().strip()}/stat")
    while child.exists() and ") Z" not in child.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.exists() or ") Z" in child.read_text()


def test_what_becomes_independent_stays(guest: Guest) -> None:
    pid = guest.directory / "pid"
    assert guest.run(f"(setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > {pid})")[0] == 0
    with pytest.raises(DeadlineExceeded):
        guest.run("sleep 1000", timeout=1)
    number = int(pid.read_text())
    assert pathlib.Path(f"/proc/{number}/comm").read_text() == "sleep\n"
    os.kill(number, signal.SIGKILL)


def test_an_interrupted_task_ends_its_command(guest: Guest) -> None:
    running = guest.directory / "running"
    reader, writer = os.pipe()
    problems: list[BaseException] = []

    def work() -> None:
        try:
            with guest.channel() as channel:
                channel.watched = writer
                channel.run(f"touch {running}; exec sleep 1000".encode())
        except ChannelError as problem:
            problems.append(problem)

    thread = threading.Thread(target=work)
    thread.start()
    while not running.exists():
        time.sleep(0.01)
    os.close(reader)
    thread.join()
    os.close(writer)
    assert "nobody reads" in str(problems[0])
    assert guest.run("echo next") == (0, b"next\n", b"")


def test_a_loop_that_is_gone_or_hangs_is_started_again(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "GREETING_SECONDS", 0.2)
    assert guest.run("echo one") == (0, b"one\n", b"")
    for number in (signal.SIGKILL, signal.SIGSTOP):
        os.killpg(guest.loops[-1].pid, number)
        if number == signal.SIGSTOP:
            # The loop's own start script would end it; here the test does.
            os.killpg(guest.loops[-1].pid, signal.SIGKILL)
        assert guest.run("echo two") == (0, b"two\n", b"")
    assert guest.started == 3


def test_a_restart_of_the_guest_is_noticed(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "SILENCE_SECONDS", 0.2)
    with guest.channel() as channel:
        assert run(channel, "sleep 1; echo silent for a while") == (0, b"silent for a while\n", b"")
        with pytest.raises(ChannelError, match="restarted"):
            run(channel, f"rm -rf {guest.directory}/kata-channel; kill -9 $PPID")


def test_two_tasks_use_two_channels_and_a_third_waits(guest: Guest) -> None:
    with guest.channel() as one, guest.channel() as two:
        assert run(one, "echo one") == (0, b"one\n", b"")
        assert run(two, "echo two") == (0, b"two\n", b"")
        with pytest.raises(DeadlineExceeded, match="all 2 data channels"):
            guest.channel(timeout=0.05)
    assert guest.run("echo three") == (0, b"three\n", b"")


def test_what_an_interrupted_task_left_in_the_port_is_never_run(guest: Guest) -> None:
    canary = guest.directory / "canary"
    for way in guest.ways.channels:
        with open(way.path + ".in", "rb+", 0) as stream:
            stream.write(f"oldtoken run n 0 touch {canary}\n half a line".encode())
    assert guest.run("echo well") == (0, b"well\n", b"")
    assert not canary.exists()


def test_a_vm_that_is_gone(guest: Guest) -> None:
    guest.run("true")
    for descriptor in guest.held:
        os.close(descriptor)
    guest.held = []
    for loop in guest.loops:
        os.killpg(loop.pid, signal.SIGKILL)
        loop.wait()

    def nobody(_script: str) -> None:
        raise VmmError("no agent answers")

    with pytest.raises(VmmError, match="no agent answers"):
        Channel(str(guest.directory), guest.ways, nobody)


def test_commands_that_cannot_be_run(guest: Guest) -> None:
    with guest.channel() as channel:
        with pytest.raises(ConfigError, match="zero byte"):
            run(channel, "echo \0")
        with pytest.raises(ConfigError, match=str(MAX_COMMAND)):
            run(channel, "x" * (MAX_COMMAND + 1))
        long = "#" + "x" * (MAX_COMMAND - 6) + "\ntrue"
        assert run(channel, long) == (0, b"", b"")


# --- answers of a guest that is not trusted ----------------------------------------------------------------------------


def answer_of(*parts: bytes) -> tuple[CommandAnswer, bytearray, bytearray]:
    output, errors = bytearray(), bytearray()
    answer = CommandAnswer("abc", output.extend, errors.extend)
    for part in parts:
        answer.feed(part)
    return answer, output, errors


def test_an_answer_in_parts_of_every_size() -> None:
    whole = b"rubbish abc beg\nabc begin\nout ab\nababc 7 4\nerr!"
    for size in range(1, len(whole) + 1):
        parts = [whole[start : start + size] for start in range(0, len(whole), size)]
        answer, output, errors = answer_of(*parts)
        assert (answer.complete, answer.code, bytes(output), bytes(errors)) == (True, 7, b"out ab\nab", b"err!")


@pytest.mark.parametrize(
    "end", [b" 7 4 5\n", b"\n", b" -1 0\n", b" 1 99999999999999\n", b" 0x1 0\n", b"x" * 40, b" 1000 0\n", b" 1\n"]
)
def test_an_end_that_is_none(end: bytes) -> None:
    with pytest.raises(ChannelError, match="exit code"):
        answer_of(b"abc begin\nabc" + end)


def test_endless_rubbish_takes_no_memory() -> None:
    marker = Marker(b"abcabd")
    for _round in range(1000):
        before, after = marker.split(b"abcab" * 100)
        assert after is None and len(before) >= 490
    greeting = Greeting("nonce")
    assert greeting.feed(b"nonx" * 100_000) == 0
    assert greeting.feed(b"nonce 12\n") == 12
    with pytest.raises(ChannelError, match="process id"):
        Greeting("nonce").feed(b"nonce 12x\n")


def test_a_request_is_one_line() -> None:
    assert request_line("t", "n", 5, b"a\\b\nc") == b"t run n 5 a\\\\b\\nc\n"
