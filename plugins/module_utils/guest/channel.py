# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run commands in a guest through a data channel beside its agent.

The agent starts the loop of `channel_program.py` at the other end when it is not there yet. From then on a command needs the channel alone, which
carries standard input and output as they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import stat
import time
from typing import BinaryIO, Callable, NamedTuple

from ..errors import ConfigError, DeadlineExceeded, HypervisorError
from ..untrusted.files import SAFE, Directory, UntrustedFile, kind_name
from .channel_answer import ChannelError, CommandAnswer, Greeting, Sink
from .channel_program import alive_script, end_script, request_line, start_script
from .ports import PortError, connect
from .ways import PIPES, GuestWays, Way

#: Runs a shell script through the guest's agent. Raises `HypervisorError` if it cannot, or the script fails.
Agent = Callable[[str], None]

#: Seconds until a loop that was started before is taken for gone. One that is only slow is started again, which does no harm.
GREETING_SECONDS = 3.0
#: After this many seconds of silence the agent is asked whether the loop is still there, and then after twice as many, up to the most.
SILENCE_SECONDS, MOST_SILENCE_SECONDS = 5.0, 60.0
#: Signals that interrupt a task.
INTERRUPTS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
#: Bytes that are read or written at once.
PART = 256 * 1024


def random_word() -> str:
    """A word that nobody can guess. `secrets` would load OpenSSL."""
    return os.urandom(16).hex()


class Session(NamedTuple):
    """What is kept on the host of a loop, in the run directory, so that the next task finds it.

    :param token: what its requests begin with
    :param place: the inode of the channel's file, which another VM of the same sandbox does not share
    """

    token: str
    place: int

    @classmethod
    def parsed(cls, data: bytes) -> Session | None:
        """The session from the content of its file; None if it holds none."""
        token, _space, place = data.decode("ascii", "replace").strip().partition(" ")
        return cls(token, int(place)) if token.isalnum() and place.isdigit() and len(place) < 24 else None


class Stream:
    """Both directions of a channel, without waiting.

    :param source: descriptor to read from
    :param target: descriptor to write to
    """

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        for descriptor in sorted({source, target}):
            os.set_blocking(descriptor, False)

    def close(self) -> None:
        """Close it. Idempotent."""
        for descriptor in sorted({self.source, self.target}):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.source = self.target = -1

    def read(self) -> bytes | None:
        """What has arrived; None if nothing has.

        :raises ChannelError: the VM ended, or its vsock connection did
        """
        try:
            data = os.read(self.source, PART)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ChannelError("the guest's data channel broke", answer=str(error)) from error
        if not data:
            raise ChannelError("the guest's data channel was closed: the guest or its VM ended")
        return data

    def write(self, data: memoryview) -> int:
        """Write what can be written now. Returns the number of bytes.

        :raises ChannelError: nobody reads any more
        """
        try:
            return os.write(self.target, data[:PART])
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ChannelError("the guest's data channel broke", answer=str(error)) from error


class CommandTimeout(DeadlineExceeded):
    """A command in a guest did not end within its time limit."""


class Channel:
    """A data channel with a loop at its other end. Only one task uses it at a time.

    :param directory: the sandbox's run directory
    :param ways: the guest's ports
    :param agent: see `Agent`
    :param timeout: seconds until a channel must be free and the loop there
    :raises Unsupported: the VM has no data channel
    :raises ChannelError: a channel cannot be opened
    :raises DeadlineExceeded: all channels are in use, or the loop did not answer in time
    """

    def __init__(self, directory: str, ways: GuestWays, agent: Agent, timeout: float = 30.0) -> None:
        #: A descriptor: when nobody reads what is written there any more, the command that runs is ended. -1 for none.
        self.watched = -1
        #: Seconds for each command that has no limit of its own; None for no limit.
        self.time_limit: float | None = None
        self._agent = agent
        self._timeout = timeout
        self._pid = 0
        self._token = ""
        self._stream: Stream | None = None
        deadline = time.monotonic() + timeout
        self._way, self._lock = _free_channel(directory, ways.channels, deadline)
        try:
            self._open(deadline)
            if self._way.kind != PIPES:
                # At a vsock port each connection has a loop of its own.
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the next task use the channel."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # --- opening --------------------------------------------------------------------------------------------------------

    def _open(self, deadline: float) -> None:
        session = self._session()
        if session is not None:
            with contextlib.suppress(PortError, ChannelError, DeadlineExceeded):
                self._greet(session.token, min(deadline, time.monotonic() + GREETING_SECONDS))
                return
        token = random_word()
        self._write_session(None)
        self._agent(start_script(self._way, token))
        while True:
            try:
                self._greet(token, deadline)
                break
            except PortError:
                # A listener at a vsock port needs a moment.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self._write_session(Session(token, self._place()))

    def _open_again(self) -> None:
        """Get a loop in place of one that was ended, so that whoever ended a command can clean up after it."""
        if self._stream is None:
            raise ChannelError("the data channel is closed")
        deadline = time.monotonic() + self._timeout
        if self._way.kind == PIPES:
            self._open(deadline)
        else:
            self._greet(self._token, deadline)

    def _greet(self, token: str, deadline: float) -> None:
        """Connect, and wait for the loop's answer."""
        if self._stream is not None:
            self._stream.close()
        self._stream = _stream(self._way, deadline)
        nonce = random_word()
        greeting = Greeting(nonce)
        # The line feed ends what an interrupted task may have left in the port.
        to_write = memoryview(f"\n{token} hello {nonce}\n".encode())
        pid = 0
        while not pid:
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(
                    "the shell that the agent started in the guest did not answer in time",
                    fix="See docs/into-the-guest.md for what a guest must have.",
                )
            readable, writable, _failed = select.select(
                [self._stream.source], [self._stream.target] if to_write else [], [], left
            )
            if writable:
                to_write = to_write[self._stream.write(to_write) :]
            data = self._stream.read() if readable else None
            if data:
                pid = greeting.feed(data)
        self._pid, self._token = pid, token

    def _place(self) -> int:
        path = self._way.path + (".in" if self._way.kind == PIPES else "")
        try:
            return os.stat(path).st_ino
        except OSError:
            return 0

    def _session(self) -> Session | None:
        os.lseek(self._lock, 0, os.SEEK_SET)
        session = Session.parsed(os.read(self._lock, 100))
        return session if session is not None and session.place == self._place() else None

    def _write_session(self, session: Session | None) -> None:
        os.lseek(self._lock, 0, os.SEEK_SET)
        os.ftruncate(self._lock, 0)
        if session is not None:
            os.write(self._lock, f"{session.token} {session.place}\n".encode())

    # --- running --------------------------------------------------------------------------------------------------------

    def run(
        self,
        command: bytes,
        stdin: BinaryIO | None = None,
        size: int = 0,
        output: Sink = lambda _data: None,
        errors: Sink = lambda _data: None,
        timeout: float | None = None,
    ) -> int:
        """Run a shell command in the guest, as root. Returns its exit code.

        :param command: for `/bin/sh -c`
        :param stdin: its standard input
        :param size: bytes of its standard input
        :param output: receives its standard output
        :param errors: receives its standard error, when it has ended
        :param timeout: seconds until it must have ended; None for `time_limit`
        :raises ConfigError: the command is too long, or has a zero byte
        :raises ChannelError: the guest restarted or ended, or answers with something else
        :raises CommandTimeout: it did not end in time. It was ended with its children
        """
        if not self._pid:
            self._open_again()
        nonce = random_word()
        try:
            line = request_line(self._token, nonce, size, command)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        answer = CommandAnswer(nonce, output, errors)
        limit = self.time_limit if timeout is None else timeout
        deadline = None if limit is None else time.monotonic() + limit
        try:
            self._exchange(answer, line, stdin, size, deadline)
        except BaseException:
            self.abort()
            raise
        return answer.code

    def _exchange(
        self,
        answer: CommandAnswer,
        line: bytes,
        stdin: BinaryIO | None,
        size: int,
        deadline: float | None,
    ) -> None:
        stream = self._stream
        if stream is None:
            raise ChannelError("the data channel is closed")
        to_write = memoryview(line)
        left_to_read = size
        silence = SILENCE_SECONDS
        asked = time.monotonic() + silence
        poll = select.poll()
        poll.register(stream.source, select.POLLIN)
        if self.watched >= 0:
            poll.register(self.watched, 0)
        while not answer.complete:
            if not to_write and left_to_read and stdin is not None:
                part = stdin.read(min(PART, left_to_read))
                if not part:
                    raise ChannelError(f"the standard input must have {size} bytes, and {left_to_read} are missing")
                to_write, left_to_read = memoryview(part), left_to_read - len(part)
            _poll_target(poll, stream, bool(to_write))
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise CommandTimeout("the command did not end in time. It was ended")
            wake = asked if deadline is None else min(asked, deadline)
            events = dict(poll.poll(max(0.0, wake - now) * 1000 + 1))
            if self.watched in events:
                raise ChannelError("nobody reads the output of the command any more. It was ended")
            if to_write and events.get(stream.target, 0) & select.POLLOUT:
                to_write = to_write[stream.write(to_write) :]
            if events.get(stream.source, 0) & (select.POLLIN | select.POLLHUP | select.POLLERR):
                data = stream.read()
                if data:
                    answer.feed(data)
            if events:
                silence = SILENCE_SECONDS
                asked = time.monotonic() + silence
            elif time.monotonic() >= asked:
                self._check_alive()
                silence = min(2 * silence, MOST_SILENCE_SECONDS)
                asked = time.monotonic() + silence

    def _check_alive(self) -> None:
        """Notice a loop that is gone, which the channel does not tell. An agent that cannot be asked says nothing."""
        try:
            self._agent(alive_script(self._pid))
        except ScriptFailed as problem:
            raise ChannelError(
                "the guest was restarted, or has ended the shell that runs its commands, before the command ended"
            ) from problem
        except HypervisorError:
            return

    def abort(self) -> None:
        """End the command that runs, with its children."""
        if not self._pid:
            return
        # Whoever interrupts a task may send more than one signal.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
        try:
            with contextlib.suppress(HypervisorError):
                self._agent(end_script(self._pid))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if self._way.kind == PIPES:
            self._write_session(None)
        self._pid = 0


class ScriptFailed(ChannelError):
    """A script that the agent was to run in the guest failed."""


def _poll_target(poll: select.poll, stream: Stream, wanted: bool) -> None:
    if stream.source == stream.target:
        poll.modify(stream.source, select.POLLIN | (select.POLLOUT if wanted else 0))
    elif wanted:
        poll.register(stream.target, select.POLLOUT)
    else:
        with contextlib.suppress(KeyError):
            poll.unregister(stream.target)


def _free_channel(directory: str, channels: tuple[Way, ...], deadline: float) -> tuple[Way, int]:
    """A channel that no other task uses, and the descriptor of its locked file."""
    if not channels:
        from ..errors import Unsupported

        raise Unsupported("this VM has no data channel into its guest")
    pause = 0.005
    while True:
        for way in channels:
            descriptor = _locked_file(directory, f"channel-{way.name}.session")
            if descriptor >= 0:
                return way, descriptor
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"all {len(channels)} data channels of the guest are in use by other tasks",
                fix="Wait for them, or set a longer timeout.",
            )
        time.sleep(pause)
        pause = min(pause * 2, 0.2)


def _locked_file(directory: str, name: str) -> int:
    """The descriptor of a file that is now locked, -1 if another task has locked it."""
    try:
        with Directory.open(directory) as place:
            try:
                descriptor = place.open_file(name, os.O_RDWR, owners=(os.geteuid(),), links=1)
            except FileNotFoundError:
                try:
                    descriptor = place.create(name)
                except FileExistsError:
                    return -1
    except (OSError, UntrustedFile) as error:
        raise ChannelError("the guest's data channel cannot be locked", wanted=directory, answer=str(error)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    return descriptor


def _stream(way: Way, deadline: float) -> Stream:
    """Both directions of a channel.

    :raises PortError: it is not there, or nobody is at its other end
    """
    if way.kind != PIPES:
        connected: socket.socket = connect(way, max(0.1, deadline - time.monotonic()))
        descriptor = connected.detach()
        return Stream(descriptor, descriptor)
    place, name = os.path.split(way.path)
    opened: list[int] = []
    try:
        with Directory.open(place) as directory:
            for ending, flags in ((".out", os.O_RDONLY), (".in", os.O_WRONLY)):
                opened.append(_pipe(directory, name + ending, flags))
    except (OSError, UntrustedFile) as error:
        for descriptor in opened:
            os.close(descriptor)
        raise PortError(f"the guest's port {way.name} cannot be reached", wanted=way.path, answer=str(error)) from error
    return Stream(*opened)


def _pipe(directory: Directory, name: str, flags: int) -> int:
    """A pipe's descriptor. Opened without waiting: writing to one that no VMM has open fails."""
    before = directory.status(name)
    if before is not None and not stat.S_ISFIFO(before.st_mode):
        raise UntrustedFile(f"{name} must be a pipe", answer=kind_name(before.st_mode))
    descriptor = os.open(name, flags | os.O_NONBLOCK | SAFE, dir_fd=directory.descriptor)
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UntrustedFile(f"{name} must be a pipe", answer="it was exchanged")
    return descriptor
