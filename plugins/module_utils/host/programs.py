# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find, check and run the host's programs.

A program that runs here ends, with all its descendants, when its time limit is over and when the task is killed. For the latter, a guard process
waits for the end of the task, and then ends all processes that have the program's mark in their environment. Processes that outlive a task, such
as VMMs, are started by `spawn.py`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import selectors
import signal
import subprocess
import time
from typing import IO, Generator, Iterable, Iterator, Mapping, NamedTuple, Sequence

from ..errors import AssetError, HostError

#: Seconds a program gets to report its version.
VERSION_SECONDS = 10.0
#: How many bytes a program may write at most: for short output (a version, a list of VMs), and for long output.
MOST_SHORT = 64 * 1024
MOST_OUTPUT = 64 << 20
#: The exit code of a program that could not be run, as in shells.
NOT_RUN = 127
#: How much of the end of a failed program's error output is shown, bytes.
WORDS = 2000
#: A program with a longer time limit than this gets a guard, which ends it with the task, seconds. For shorter ones a guard is too expensive.
GUARDED_SECONDS = 10.0
#: How long descendants get to end after SIGTERM before they are killed, seconds.
TERM_SECONDS = 1.0
#: The environment variable with the mark by which a program's descendants are found.
MARK = "KATA_HYPERVISOR_PROGRAM"
#: The packages that have qemu-img.
QEMU_IMG_PACKAGES = "qemu-utils (Debian, Ubuntu) or qemu-img (Fedora, RHEL)"
#: How many bytes are read at once.
PIECE = 1 << 20


def check_program(path: str, option: str, fix: str = "") -> str:
    """Check that a program can be run. For root, no other user may be able to exchange it: its file and all directories above must be root's.

    :raises AssetError: it cannot be run
    :raises HostError: another user could exchange it
    """
    if not os.path.isfile(path):
        raise AssetError("the program does not exist", option=option, wanted=path, fix=fix)
    if not os.access(path, os.X_OK):
        raise AssetError("the program must be executable", option=option, wanted=path, fix=fix)
    if os.geteuid() == 0:
        # Imported here, since not every task needs it.
        from ..untrusted.files import check_parents

        check_parents(path if os.path.isabs(path) else os.path.abspath(path), option, shared_groups=True)
    return path


def find_program(wanted: str, places: Sequence[str], name: str) -> str:
    """The path of the requested VMM, or of the first one in the usual places.

    :raises AssetError: it does not exist, or it cannot be run
    :raises HostError: as `check_program`
    """
    if wanted:
        return check_program(wanted, "hypervisor_path")
    for path in places:
        if os.access(path, os.X_OK):
            return check_program(path, "hypervisor_path")
    raise AssetError(
        f"{name} must be in {', '.join(places)}",
        option="hypervisor_path",
        fix="Install it (role kata.hypervisor.kata_vmm) or name its path.",
    )


def installed_program(name: str, packages: str) -> str:
    """The path of a program of the distribution. Administrators' programs are found too if they are not in the user's PATH.

    :param packages: the packages that have it, for the error
    :raises HostError: it is not installed, or another user could exchange it
    """
    import shutil

    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))
    if found is None:
        raise HostError(f"{name} must be installed", fix=f"Install the package {packages}.")
    return check_program(found, "PATH")


def version_text(program: str, question: str = "--version") -> str:
    """The output of a program for `--version`; if it cannot be run, or does not end, the reason."""
    found = output_of([program, question], VERSION_SECONDS)
    return found.problem or found.text.strip()


class Output(NamedTuple):
    """The output of a program.

    :param code: its exit code; None if it was ended because it ran too long, or wrote too much
    :param output: its standard output and its error output, up to the limit
    :param problem: why the output is incomplete; empty if it is complete
    """

    code: int | None
    output: bytes
    problem: str

    @property
    def text(self) -> str:
        """The output as text."""
        return self.output.decode("utf-8", "replace")


def output_of(argv: Sequence[str], seconds: float, most: int = MOST_SHORT) -> Output:
    """Run a program without input, and return its output, up to a limit. A failure is part of the result, never an exception.

    :param seconds: its time limit
    :param most: how many bytes it may write
    """
    deadline = time.monotonic() + seconds
    output = bytearray()
    try:
        with _started(
            argv, False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            descriptor = process.stdout.fileno() if process.stdout else -1
            while len(output) <= most:
                if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    return Output(None, bytes(output), f"{argv[0]} did not end within {seconds:g} seconds")
                piece = os.read(descriptor, PIECE)
                if not piece:
                    process.wait(max(0.1, deadline - time.monotonic()))
                    return Output(process.returncode, bytes(output), "")
                output += piece
            return Output(None, bytes(output[:most]), f"{argv[0]} wrote more than {most} bytes")
    except (OSError, ValueError, subprocess.TimeoutExpired) as problem:
        return Output(NOT_RUN, bytes(output), str(problem))


class Ended(NamedTuple):
    """How a program ended.

    :param code: its exit code, negative for the signal that ended it
    :param output: its standard output, unless that went to a file
    :param words: its standard error, or its standard output if that is empty
    """

    argv: list[str]
    code: int
    output: bytes
    words: str

    @property
    def text(self) -> str:
        """The output as text."""
        return self.output.decode("utf-8", "replace")

    def raise_on_failure(self) -> Ended:
        """Raise an error if the program failed. Returns the object itself.

        :raises HostError: the program failed; the error has its output
        """
        if self.code:
            raise HostError(
                f"{self.argv[0]} failed with exit code {self.code}", wanted=" ".join(self.argv), answer=self.words
            )
        return self


def run(
    argv: Sequence[str],
    seconds: float,
    *,
    directory: str = "/",
    data: bytes = b"",
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | int = subprocess.PIPE,
    most: int = MOST_OUTPUT,
) -> Ended:
    """Run a program to its end. It may fail.

    :param seconds: its time limit
    :param data: its standard input
    :param environment: its complete environment; None for ours, with English messages
    :param output: the file for its standard output
    :param most: how many bytes it may write to its standard output, unless that is a file
    :raises HostError: it cannot be run, did not end in time, wrote more than `most`, or the disk is full
    """
    guarded = seconds > GUARDED_SECONDS
    try:
        with _started(
            argv, guarded, cwd=directory, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.PIPE
        ) as process:
            written, errors = _communicate(process, data, seconds, most)
    except (OSError, ValueError, subprocess.TimeoutExpired) as problem:
        raise _not_run(argv, problem) from problem
    words = (errors or written)[-WORDS:].decode("utf-8", "replace").strip()
    return _ended(argv, process.returncode, written, words)


class TooMuch(OSError):
    """A program wrote more than it may."""


def _communicate(process: subprocess.Popen[bytes], data: bytes, seconds: float, most: int) -> tuple[bytes, bytes]:
    """Write a program's input and read its output at the same time. Returns its standard output, and the end of its error output.

    :raises TooMuch: it wrote more than `most` bytes
    :raises TimeoutExpired: it did not end in time
    """
    deadline = time.monotonic() + seconds
    written, words = bytearray(), bytearray()
    left = memoryview(data)
    with selectors.DefaultSelector() as selector:
        if process.stdin is not None:
            selector.register(process.stdin, selectors.EVENT_WRITE)
        for stream, kept in ((process.stdout, written), (process.stderr, words)):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, kept)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise subprocess.TimeoutExpired(process.args, seconds)
            for key, _events in ready:
                if key.fileobj is process.stdin:
                    try:
                        left = left[os.write(key.fd, left[: select.PIPE_BUF]) :] if left else left
                    except BrokenPipeError:
                        left = left[:0]
                    if not left:
                        selector.unregister(key.fileobj)
                        process.stdin.close()
                    continue
                piece = os.read(key.fd, PIECE)
                if not piece:
                    selector.unregister(key.fileobj)
                key.data.extend(piece)
                del words[:-WORDS]
                if len(written) > most:
                    raise TooMuch(f"it wrote more than {most} bytes")
    process.wait(max(0.1, deadline - time.monotonic()))
    return bytes(written), bytes(words)


def pieces_of(argv: Sequence[str], seconds: float, source: IO[bytes]) -> Generator[bytes, None, Ended]:
    """Run a program, and yield its standard output piece by piece. The generator returns how it ended.

    :param seconds: its time limit
    :param source: the file that it reads, from the descriptor's position
    :raises HostError: as `run`
    """

    deadline = time.monotonic() + seconds
    try:
        with _started(argv, True, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            output, errors = (stream.fileno() if stream else -1 for stream in (process.stdout, process.stderr))
            streams, end = [output, errors], bytearray()
            while streams:
                ready = select.select(streams, [], [], max(0.0, deadline - time.monotonic()))[0]
                if not ready:
                    raise subprocess.TimeoutExpired(list(argv), seconds)
                for stream in ready:
                    piece = os.read(stream, PIECE)
                    if not piece:
                        streams.remove(stream)
                    elif stream == output:
                        yield piece
                    else:
                        # Only the end is shown.
                        end = (end + piece)[-WORDS:]
            process.wait(max(0.1, deadline - time.monotonic()))
            words = end.decode("utf-8", "replace").strip()
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise _not_run(argv, problem) from problem
    return _ended(argv, process.returncode, b"", words)


def _not_run(argv: Sequence[str], problem: Exception) -> HostError:
    return HostError(f"{argv[0]} could not be run", wanted=" ".join(argv), answer=str(problem))


def _ended(argv: Sequence[str], code: int, output: bytes, words: str) -> Ended:
    if code and os.strerror(errno.ENOSPC) in words:
        raise HostError(
            "the disk is full",
            wanted=" ".join(argv),
            answer=words,
            fix="The old version is unchanged. Free some space and run the task again.",
        )
    return Ended(list(argv), code, output, words)


# --- the end of a program and of all its descendants -------------------------------------------------------------------


@contextlib.contextmanager
def _started(
    argv: Sequence[str], guarded: bool, env: Mapping[str, str] | None = None, **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program in a session of its own. If the block ends before the program, the program is ended with all its descendants.

    :param guarded: whether it is also ended when this process is killed
    """
    mark = os.urandom(16).hex()
    environment = {**(env or {**os.environ, "LC_ALL": "C.UTF-8"}), MARK: mark}
    guard = _Guard(mark) if guarded else None
    try:
        # pylint: disable-next=ansible-bad-function  # run_command needs a module, and waits for the end
        process = subprocess.Popen(argv, env=environment, start_new_session=True, **options)  # type: ignore[call-overload]
        try:
            yield process
        finally:
            if process.returncode is None:
                end_marked(mark, process.pid)
                process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            process.wait()
    finally:
        if guard:
            guard.dismiss()


class _Guard:
    """A process that waits for the end of this one, and then ends all processes that have the mark."""

    def __init__(self, mark: str) -> None:
        reading, self._writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._wait(reading, mark)
        os.close(reading)

    @staticmethod
    def _wait(reading: int, mark: str) -> None:
        try:
            os.setsid()
            # The guard must not hold any descriptor of the task open: neither its connection nor the pipes of other guards.
            for descriptor in map(int, os.listdir("/proc/self/fd")):
                if descriptor != reading:
                    with contextlib.suppress(OSError):
                        os.close(descriptor)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            if not os.read(reading, 1):
                end_marked(mark)
        finally:
            os._exit(0)

    def dismiss(self) -> None:
        """End the guard, since the program has ended."""
        with contextlib.suppress(OSError):
            os.write(self._writing, b"x")
        os.close(self._writing)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def end_marked(mark: str, session: int = 0) -> None:
    """End the processes that have the mark in their environment, or are in the session: by SIGTERM, then by SIGKILL."""
    wanted = f"{MARK}={mark}".encode()
    deadline = time.monotonic() + TERM_SECONDS
    while time.monotonic() < deadline + TERM_SECONDS:
        found = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_marked(pid, wanted, session)]
        if not found:
            return
        for pid in found:
            _signal(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL, wanted, session)
        time.sleep(0.02)


def _is_marked(pid: int, wanted: bytes, session: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            # The fields after the name, which may have blanks: state, parent, group, session (proc(5)).
            state, _parent, _group, its_session = stream.read().rpartition(b")")[2].split()[:4]
        if state in (b"Z", b"X"):
            return False
        if session and int(its_session) == session:
            return True
        with open(f"/proc/{pid}/environ", "rb") as stream:
            return wanted in stream.read().split(b"\0")
    except (OSError, ValueError):
        return False


def _signal(pid: int, number: int, wanted: bytes, session: int) -> None:
    """Send a signal to a process if it is still the one that was found."""
    with contextlib.suppress(OSError):
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            # Linux before 5.3.
            os.kill(pid, number)
            return
        try:
            if _is_marked(pid, wanted, session):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def existing_programs(places: Iterable[str]) -> list[str]:
    """The programs that exist and can be run, each once, even if several links lead to it."""
    found: dict[str, str] = {}
    for path in places:
        if os.access(path, os.X_OK) and os.path.isfile(path):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())
