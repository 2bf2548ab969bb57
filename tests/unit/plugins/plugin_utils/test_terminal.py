# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program on the host that a terminal is joined with: what it connects to, and what it reads of logs. And what becomes of it on the controller."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
from typing import Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.action.kata_logs import LONGEST_LINE, Pieces
from ansible_collections.kata.hypervisor.plugins.module_utils.host import terminal_program
from ansible_collections.kata.hypervisor.plugins.module_utils.host.terminal_program import is_used, news
from ansible_collections.kata.hypervisor.plugins.plugin_utils.terminal import TerminalError, terminal_of

PROGRAM = terminal_program.__file__


@pytest.fixture(name="log")
def fixture_log(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "console.log"
    path.write_bytes(b"one\ntwo\nthree\n")
    return path


def test_the_last_lines_and_then_what_is_added(log: pathlib.Path) -> None:
    data, known = news(str(log), None, 2)
    assert data == b"two\nthree\n"
    assert news(str(log), known, 2) == (b"", known)
    with log.open("ab") as stream:
        stream.write(b"four")
    data, known = news(str(log), known, 2)
    assert data == b"four"


def test_a_log_that_was_cut_or_replaced_is_read_from_its_start(log: pathlib.Path) -> None:
    _data, known = news(str(log), None, 0)
    log.write_bytes(b"cut\n")
    data, known = news(str(log), known, 0)
    assert data == b"cut\n"
    log.rename(log.with_name("console.log.old"))
    assert news(str(log), known, 0) == (b"", known)
    log.write_bytes(b"a new one\n")
    assert news(str(log), known, 0)[0] == b"a new one\n"


def test_only_plain_files_are_logs(log: pathlib.Path, tmp_path: pathlib.Path) -> None:
    link, fifo, second = tmp_path / "link", tmp_path / "fifo", tmp_path / "second"
    link.symlink_to("/etc/passwd")
    os.mkfifo(fifo)
    assert news(str(link), None, 5)[0] == news(str(fifo), None, 5)[0] == b""
    os.link(log, second)
    assert news(str(second), None, 5)[0] == b""


@pytest.fixture(name="console")
def fixture_console() -> Iterator[tuple[str, socket.socket]]:
    """A socket as QEMU has it."""
    with tempfile.TemporaryDirectory(prefix="kt-") as directory, socket.socket(socket.AF_UNIX) as listener:
        path = os.path.join(directory, "console.sock")
        listener.bind(path)
        listener.listen()
        yield path, listener


def attached(path: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, PROGRAM, "attach", "<ready>", path, str(os.getpid())]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_input_and_output_are_joined_with_a_socket(console: tuple[str, socket.socket]) -> None:
    path, listener = console
    with attached(path) as program:
        assert program.stdin is not None and program.stdout is not None
        stream, _address = listener.accept()
        with stream:
            assert program.stdout.read(7) == b"<ready>"
            program.stdin.write(b"typed\x00\xff")
            program.stdin.flush()
            assert stream.recv(100) == b"typed\x00\xff"
            stream.sendall(b"printed\x1b")
            assert program.stdout.read(8) == b"printed\x1b"
        assert program.wait() == 0


def test_the_end_of_the_input_ends_it(console: tuple[str, socket.socket]) -> None:
    path, listener = console
    with attached(path) as program:
        stream, _address = listener.accept()
        assert program.stdin is not None
        program.stdin.close()
        assert stream.recv(1) == b""
        stream.close()
        assert program.wait() == 0


def test_a_console_that_is_used_is_refused(console: tuple[str, socket.socket]) -> None:
    path, listener = console
    assert not is_used("console.sock", os.getpid())
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(path)
        accepted, _address = listener.accept()
        with accepted:
            assert is_used("console.sock", os.getpid())
            with attached(path) as program:
                _stdout, stderr = program.communicate()
                assert program.returncode == 3
                assert b"another terminal or program is attached to it" in stderr
    assert not is_used("console.sock", os.getpid())


def test_a_link_is_not_followed(console: tuple[str, socket.socket]) -> None:
    path, _listener = console
    link = path + ".link"
    os.symlink(path, link)
    with attached(link) as program:
        _stdout, stderr = program.communicate()
        assert program.returncode == 3 and b"neither a socket nor a terminal" in stderr


def test_pieces_become_printable_lines() -> None:
    pieces = Pieces({"0.console": "a web console", "0.vmm": "a web vmm"})
    assert pieces.text_of(b"0.console 4\nre") == ""
    assert (
        pieces.text_of(b"d\x1b0.vmm 5\nwarn\n0.console 8\n[2J\r\nnex")
        == "a web vmm| warn\na web console| red\\x1b[2J\n"
    )
    assert pieces.text_of(b"0.console 4\nt\xff\n\n") == "a web console| next\ufffd\na web console| \n"


def test_a_line_without_end_is_printed_in_pieces() -> None:
    pieces = Pieces({"0.console": "c"})
    assert (
        pieces.text_of(b"0.console %d\n" % (LONGEST_LINE + 1) + b"x" * (LONGEST_LINE + 1))
        == f"c| {'x' * (LONGEST_LINE + 1)}\n"
    )


@pytest.mark.parametrize(
    "data", [b"1.console 3\nabc", b"0.console 99999999\n", b"x" * 100, b"0.console -5\n" + b"x" * 100]
)
def test_something_else_than_logs_is_an_error(data: bytes) -> None:
    with pytest.raises(TerminalError, match="something else than logs"):
        Pieces({"0.console": "c"}).text_of(data)


def test_a_process_without_a_terminal() -> None:
    with subprocess.Popen(["sleep", "100"], stdin=subprocess.DEVNULL) as process:
        try:
            with pytest.raises(TerminalError, match="must be run by hand in a terminal"):
                terminal_of(process.pid)
        finally:
            process.kill()
