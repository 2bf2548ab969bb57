# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program of the host runs to its end, or an error names it, with its own words."""

from __future__ import annotations

import grp
import os
import pathlib
import pwd
import resource
import signal
import subprocess
import time

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.host import programs, users
from ansible_collections.kata.hypervisor.plugins.module_utils.host.programs import check_program, pieces_of, run
from tests.support.waiting import wait_until


def test_what_goes_in_and_what_comes_out(tmp_path: pathlib.Path) -> None:
    ended = run(
        ["sh", "-c", "pwd; cat; echo aside >&2"], 30, directory=str(tmp_path), data=b"\xff words\n"
    ).raise_on_failure()
    assert ended.output == f"{tmp_path}\n".encode() + b"\xff words\n"
    assert ended.text == f"{tmp_path}\n\ufffd words\n"
    assert ended.words == "aside"


def test_nothing_waits_for_an_input_that_never_comes() -> None:
    assert run(["cat"], 30).raise_on_failure().output == b""


def test_the_output_may_go_to_a_file(tmp_path: pathlib.Path) -> None:
    with open(tmp_path / "out", "wb") as stream:
        assert run(["echo", "there"], 30, output=stream).raise_on_failure().output == b""
    assert (tmp_path / "out").read_bytes() == b"there\n"


def test_programs_speak_english_unless_they_get_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("MINE", "kept")
    question = ["sh", "-c", 'echo "$LC_ALL $MINE"']
    assert run(question, 30).text == "C.UTF-8 kept\n"
    assert run(question, 30, environment={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}).text == "C \n"


def test_a_failure_carries_the_programs_words() -> None:
    ended = run(["sh", "-c", "echo output; echo no such thing >&2; exit 3"], 30)
    assert (ended.code, ended.words) == (3, "no such thing")
    with pytest.raises(HostError, match="sh failed with exit code 3") as caught:
        ended.raise_on_failure()
    assert caught.value.answer == "no such thing"
    assert caught.value.wanted.startswith("sh -c echo output")


def test_a_failure_that_says_nothing_aside_is_told_by_its_output() -> None:
    assert run(["sh", "-c", "yes word | head -c 1000000; echo the last; exit 1"], 30).words.endswith("word\nthe last")
    assert len(run(["sh", "-c", "yes word | head -c 1000000; exit 1"], 30).words) <= 2000


def test_what_cannot_run_or_does_not_end_is_named() -> None:
    with pytest.raises(HostError, match="/nowhere/program could not be run") as caught:
        run(["/nowhere/program"], 30)
    assert "No such file or directory" in caught.value.answer
    with pytest.raises(HostError, match="sleep could not be run") as caught:
        run(["sleep", "60"], 0.1)
    assert "timed out after 0.1 seconds" in caught.value.answer


@pytest.mark.parametrize("script", ["exec yes", "exec tr '\\0' x </dev/zero", "yes >&2 & exec yes"])
def test_what_never_stops_writing_is_ended(script: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(HostError, match="could not be run") as caught:
        programs.run(["sh", "-c", script], 60, most=1 << 20)
    assert "wrote more than" in caught.value.answer
    found = programs.output_of(["sh", "-c", script], 60)
    assert found.code is None and len(found.output) == programs.MOST_SHORT and "wrote more than" in found.problem
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_of_an_endless_error_output_the_end_is_kept() -> None:
    done = programs.run(["sh", "-c", "seq 1 200000 >&2; echo out; exit 3"], 60)
    assert (
        (done.code, done.text) == (3, "out\n")
        and done.words.endswith("199999\n200000")
        and len(done.words) <= programs.WORDS
    )


def test_an_endless_error_output_beside_pieces_is_bounded(tmp_path: pathlib.Path) -> None:
    (tmp_path / "in").write_bytes(b"data")
    with open(tmp_path / "in", "rb") as source:
        pieces = pieces_of(["sh", "-c", "seq 1 300000 >&2; cat; exit 3"], 60, source)
        found = []
        ended: programs.Ended | None = None
        while ended is None:
            try:
                found.append(next(pieces))
            except StopIteration as end:
                ended = end.value
    assert (
        b"".join(found) == b"data"
        and ended.code == 3
        and ended.words.endswith("300000")
        and len(ended.words) <= programs.WORDS
    )


def test_much_goes_in_and_comes_out_at_the_same_time() -> None:
    data = bytes(range(256)) * 8192
    assert programs.run(["cat"], 60, data=data).output == data
    assert programs.run(["head", "-c", "3"], 60, data=data).output == data[:3]


@pytest.mark.parametrize("argv", [["/nowhere"], ["/"], ["\0"], ["\ud800"], ["/etc/passwd"]])
def test_what_cannot_be_run_has_nothing_to_say(argv: list[str]) -> None:
    found = programs.output_of(argv, 5)
    assert (found.code, found.output) == (programs.NOT_RUN, b"") and found.problem
    assert programs.version_text(argv[0]) == found.problem
    with pytest.raises(HostError, match="could not be run"):
        programs.run(argv, 5)


def test_a_program_that_does_not_end_is_not_heard_to_its_end() -> None:
    found = programs.output_of(["sh", "-c", "echo so far; exec sleep 600"], 2)
    assert (found.code, found.text) == (None, "so far\n") and "did not end within 2 seconds" in found.problem


def test_a_full_disk_is_told_from_other_failures() -> None:
    with open("/dev/full", "wb") as stream, pytest.raises(HostError, match="the disk is full") as caught:
        run(["cat"], 30, data=b"words", output=stream)
    assert "No space left on device" in caught.value.answer


# --- the end of a program takes its descendants along --------------------------------------------------------------------

#: Writes to a file for ever: itself, a child, and a grandchild in a session of its own.
_WRITES = "while :; do echo x >>$0/{}; sleep 0.02; done"
FAMILY = f"setsid sh -c '{_WRITES.format('far')}' \"$0\" & sh -c '{_WRITES.format('near')}' \"$0\" & while :; do sleep 0.02; done"


def sizes(*paths: pathlib.Path) -> list[int]:
    return [path.stat().st_size if path.exists() else 0 for path in paths]


def grows(*paths: pathlib.Path) -> bool:
    """Whether something is written within a time in which a process that lives writes often."""
    before = sizes(*paths)
    time.sleep(0.3)
    return before != sizes(*paths)


@pytest.mark.parametrize("seconds", [1.0, programs.GUARDED_SECONDS + 1])
def test_what_did_not_end_in_time_ends_with_its_descendants(
    tmp_path: pathlib.Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seconds > programs.GUARDED_SECONDS:
        monkeypatch.setattr(programs, "GUARDED_SECONDS", 0.5)
        seconds = 1.0
    with pytest.raises(HostError, match="timed out after"):
        run(["sh", "-c", FAMILY, str(tmp_path)], seconds)
    assert not grows(tmp_path / "far", tmp_path / "near")


def test_a_task_that_is_killed_takes_its_program_along(tmp_path: pathlib.Path) -> None:
    task = os.fork()
    if task == 0:
        try:
            os.setsid()
            run(["sh", "-c", FAMILY, str(tmp_path)], programs.GUARDED_SECONDS + 100)
        finally:
            os._exit(1)
    paths = (tmp_path / "far", tmp_path / "near")
    wait_until(lambda: all(sizes(*paths)), "the first words of both")
    os.kill(task, signal.SIGKILL)
    os.waitpid(task, 0)
    wait_until(lambda: not grows(*paths), "the end of both")


def test_a_program_that_ends_leaves_nothing(tmp_path: pathlib.Path) -> None:
    before = os.listdir("/proc/self/fd")
    assert run(["true"], programs.GUARDED_SECONDS + 1).code == 0
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_pieces_come_as_they_are_written(tmp_path: pathlib.Path) -> None:
    (tmp_path / "in").write_bytes(b"one two")
    with open(tmp_path / "in", "rb") as source:
        assert b"".join(pieces_of(["cat"], 30, source)) == b"one two"
    with open(tmp_path / "in", "rb") as source, pytest.raises(HostError, match="could not be run"):
        list(pieces_of(["sleep", "60"], 0.2, source))
    with open("/dev/zero", "rb") as source:
        pieces = pieces_of(["cat"], 30, source)
        next(pieces)
        pieces.close()  # The program is ended, not waited for.


# --- what runs as root -------------------------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "opt" / "bin" / "vmm"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    for one in (path, path.parent, path.parent.parent):
        one.chmod(0o755)
    return path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs them as root")
@pytest.mark.parametrize(
    ("which", "mode", "owner", "group"),
    [
        ("", 0o777, 0, 0),
        ("", 0o755, 1234, 0),
        ("", 0o775, 0, 1234),
        ("bin", 0o777, 0, 0),
        ("bin", 0o755, 1234, 0),
        ("opt", 0o757, 0, 0),
        ("opt", 0o775, 0, 1234),
    ],
)
def test_a_program_that_others_could_exchange_is_refused(
    program: pathlib.Path, which: str, mode: int, owner: int, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pwd.getpwall", lambda: [pwd.struct_passwd(("eve", "x", 5000, 1234, "", "/", "/bin/sh"))])
    assert check_program(str(program), "hypervisor_path") == str(program)
    at_fault = {"": program, "bin": program.parent, "opt": program.parent.parent}[which]
    os.chown(at_fault, owner, group)
    at_fault.chmod(mode)
    with pytest.raises(HostError, match=str(at_fault)) as caught:
        check_program(str(program), "hypervisor_path")
    assert caught.value.option == "hypervisor_path"
    link = program.parent.parent.parent / "link"
    link.symlink_to(program)
    with pytest.raises(HostError, match=str(at_fault)):
        check_program(str(link), "hypervisor_path")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_link_of_somebody_else_is_refused(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(program)
    os.lchown(link, 1234, 1234)
    with pytest.raises(HostError, match="belongs to user 1234"):
        check_program(str(link), "hypervisor_path")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another group")
def test_a_group_that_nobody_is_in_may_write(program: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's /usr/local/bin is root:staff 2775."""
    monkeypatch.setattr("pwd.getpwall", lambda: [pwd.struct_passwd(("root", "x", 0, 0, "", "/", "/bin/sh"))])
    monkeypatch.setattr("grp.getgrgid", lambda _: grp.struct_group(("staff", "x", 50, [])))
    os.chown(program.parent, 0, 50)
    program.parent.chmod(0o2775)
    assert check_program(str(program), "hypervisor_path")
    monkeypatch.setattr("grp.getgrgid", lambda _: grp.struct_group(("staff", "x", 50, ["eve"])))
    with pytest.raises(HostError, match="others can write to it"):
        check_program(str(program), "hypervisor_path")


def test_a_program_must_be_there_and_executable(program: pathlib.Path) -> None:
    program.chmod(0o644)
    with pytest.raises(AssetError, match="must be executable"):
        check_program(str(program), "hypervisor_path")
    with pytest.raises(AssetError, match="program does not exist"):
        check_program(f"{program}x", "hypervisor_path")


@pytest.mark.parametrize(
    "problem", [subprocess.TimeoutExpired(["sh"], 30), OSError("no"), subprocess.SubprocessError("no")]
)
def test_what_a_user_may_do_is_found_out_or_an_error(monkeypatch: pytest.MonkeyPatch, problem: Exception) -> None:
    def fails(*_words: object, **_options: object) -> None:
        raise problem

    monkeypatch.setattr(users.subprocess, "run", fails)
    with pytest.raises(HostError, match="cannot be determined"):
        users.check_access(users.User("nobody", 65534, 65534, (65534,)), [users.Wanted("kernel_path", "/k", "r")])
