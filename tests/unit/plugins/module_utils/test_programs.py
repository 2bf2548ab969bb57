# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program of the host runs to its end, or an error names it, with its own words."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.programs import run


def test_what_goes_in_and_what_comes_out(tmp_path: pathlib.Path) -> None:
    ended = run(["sh", "-c", "pwd; cat; echo aside >&2"], 30, directory=str(tmp_path), data=b"\xff words\n").checked()
    assert ended.output == f"{tmp_path}\n".encode() + b"\xff words\n"
    assert ended.text == f"{tmp_path}\n\ufffd words\n"
    assert ended.words == "aside"


def test_nothing_waits_for_an_input_that_never_comes() -> None:
    assert run(["cat"], 30).checked().output == b""


def test_the_output_may_go_to_a_file(tmp_path: pathlib.Path) -> None:
    with open(tmp_path / "out", "wb") as stream:
        assert run(["echo", "there"], 30, output=stream).checked().output == b""
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
        ended.checked()
    assert caught.value.answer == "no such thing"
    assert caught.value.wanted.startswith("sh -c echo output")


def test_a_failure_that_says_nothing_aside_is_told_by_its_output() -> None:
    assert run(["sh", "-c", "yes word | head -c 1000000; echo the last; exit 1"], 30).words.endswith("word\nthe last")
    assert len(run(["sh", "-c", "yes word | head -c 1000000; exit 1"], 30).words) <= 2000


def test_what_cannot_run_or_does_not_end_is_named() -> None:
    with pytest.raises(HostError, match="/nowhere/program could not be run to its end") as caught:
        run(["/nowhere/program"], 30)
    assert "No such file or directory" in caught.value.answer
    with pytest.raises(HostError, match="sleep could not be run to its end") as caught:
        run(["sleep", "60"], 0.1)
    assert "timed out after 0.1 seconds" in caught.value.answer


def test_a_full_disk_is_told_from_other_failures() -> None:
    with open("/dev/full", "wb") as stream, pytest.raises(HostError, match="the disk is full") as caught:
        run(["cat"], 30, data=b"words", output=stream)
    assert "No space left on device" in caught.value.answer
