# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A log that is too long keeps its newer half, also while somebody appends to it and somebody reads its end."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.waiting import SEARCHED, _printed
from tests.support.mock_lab import BOOT, MockLab

PROGRAM = pathlib.Path(__file__).resolve().parents[3] / "plugins/module_utils/host/console_logs.py"
MIB = 1 << 20
LINE = 16

#: Appends numbered lines without end, as a VMM that opened its log would.
PRINTER = """
import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
number = 0
while True:
    os.write(log, b"%015d\\n" % number)
    number += 1
"""


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("cut_console_logs", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


logs = _load()


def numbered(count: int) -> bytes:
    return b"".join(b"%015d\n" % number for number in range(count))


def test_the_newer_half_is_kept_and_the_cut_is_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "console.log"
    content = numbered(3 * MIB // LINE)
    path.write_bytes(content)
    inode = path.stat().st_ino
    assert logs.cut(str(path), 2 * MIB) is True
    assert path.read_bytes() == logs.NOTICE + content[-MIB:]
    assert path.stat().st_ino == inode
    assert logs.cut(str(path), 2 * MIB) is False


@pytest.mark.parametrize("size", [0, 1, 2 * MIB])
def test_a_log_within_the_limit_is_left_alone(tmp_path: pathlib.Path, size: int) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(bytes(size))
    assert logs.cut(str(path), 2 * MIB) is False
    assert path.read_bytes() == bytes(size)


def test_nothing_but_a_file_is_cut(tmp_path: pathlib.Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(MIB))
    (tmp_path / "link").symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        logs.cut(str(tmp_path / "link"), 1024)
    os.mkfifo(tmp_path / "pipe")
    assert logs.cut(str(tmp_path / "pipe"), 0) is False
    assert secret.stat().st_size == MIB


def test_what_is_printed_while_it_is_cut_is_brought_along(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "console.log"
    content = numbered(3 * MIB // LINE)
    path.write_bytes(content)
    more = []

    def printing(*arguments: Any, real: Any = os.pwrite) -> Any:
        if len(more) < 30:
            more.append(b"printed meanwhile %d\n" % len(more))
            with open(path, "ab") as stream:
                stream.write(more[-1])
        return real(*arguments)

    monkeypatch.setattr(logs.os, "pwrite", printing)
    assert logs.cut(str(path), 2 * MIB) is True
    assert len(more) == 30
    assert path.read_bytes() == logs.NOTICE + content[-MIB:] + b"".join(more)


def test_a_guest_that_floods_its_log_finds_it_in_order(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "console.log"
    with subprocess.Popen([sys.executable, "-I", "-c", PRINTER, str(path)]) as printer:
        try:
            cuts = 0
            while cuts < 10:
                cuts += path.exists() and logs.cut(str(path), 256 * 1024)
        finally:
            printer.kill()
    text = path.read_bytes()
    assert text.startswith(logs.NOTICE) and text.count(logs.NOTICE) == 1
    numbers = [int(word) for word in re.findall(rb"(?m)^\d{15}$", text)]
    assert len(numbers) > 6000
    assert all(after > before for before, after in zip(numbers, numbers[1:]))


def test_the_words_that_are_waited_for_are_there_at_every_moment(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The role allows no limit below 8 MiB: what wait_for looks through is within the half that stays."""
    path = tmp_path / "console.log"
    content = numbered(9 * MIB // LINE)[: -len(b"login: ")] + b"login: "
    path.write_bytes(content)
    seen = []

    def looking(real: Any, *arguments: Any) -> Any:
        seen.append(_printed(str(path), 0))
        result = real(*arguments)
        seen.append(_printed(str(path), 0))
        return result

    for name in ("pread", "pwrite", "ftruncate"):
        monkeypatch.setattr(logs.os, name, functools.partial(looking, getattr(os, name)))
    assert logs.cut(str(path), 8 * MIB) is True
    assert len(seen) > 10
    assert {words == content[-SEARCHED:] for words in seen} == {True}
    # A sandbox's place in its log from before the cut, near its end.
    assert _printed(str(path), 8 * MIB)[-7:] == b"login: "


def test_the_program_looks_at_every_sandbox_and_template(tmp_path: pathlib.Path) -> None:
    content = bytes(range(256)) * 4096 * 9
    for name in (
        "web/console.log",
        "web/console.log.old",
        ".template-base/console.log",
        "web/vmm.log",
        "o[d]d/console.log",
    ):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_bytes(content)
    (tmp_path / "run/evil").mkdir()
    (tmp_path / "run/evil/console.log").symlink_to(tmp_path / "run/web/vmm.log")
    done = subprocess.run(
        [sys.executable, "-I", str(PROGRAM), "8", str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == f"{tmp_path}/run/evil/console.log: [Errno 40] Too many levels of symbolic links: '{tmp_path}/run/evil/console.log'\n"
    )
    sizes = {
        str(path.relative_to(tmp_path / "run")): path.stat().st_size
        for path in (tmp_path / "run").glob("*/*")
        if not path.is_symlink()
    }
    kept = 4 * MIB + len(logs.NOTICE)
    assert sizes == {
        "web/console.log": kept,
        "web/console.log.old": kept,
        ".template-base/console.log": kept,
        "o[d]d/console.log": kept,
        "web/vmm.log": len(content),
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_one_guests_console_keeps_no_other_sandbox_from_starting(tmp_path: pathlib.Path) -> None:
    lab = MockLab(tmp_path)
    (tmp_path / "run").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", str(tmp_path / "run")], check=True)
    try:
        lab.run(id="loud", **BOOT)
        with open(tmp_path / "run/loud/console.log", "wb", buffering=0) as console, contextlib.suppress(OSError):
            while True:
                console.write(b"flood " * 1000)
        assert os.statvfs(tmp_path / "run").f_bavail == 0
        assert lab.run(id="quiet", **BOOT)["sandbox"]["state"] == "started"
        assert (tmp_path / "run/loud/console.log").stat().st_size <= MIB
        assert b"flood flood" in (tmp_path / "run/loud/console.log").read_bytes()[-100:]
        for name in ("loud", "quiet"):
            lab.run(id=name, state="absent")
    finally:
        subprocess.run(["umount", str(tmp_path / "run")], check=True)
