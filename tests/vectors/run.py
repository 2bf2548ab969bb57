#!/usr/bin/env python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what the drivers do with what Kata 1.x did: `run.py PATH...`, each a .jsonl file of recorded answers or a folder of them.

Prints one line per file and ends with 1 when a line failed that is no listed deviation, or when a file that was named has no adapter.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import importlib
import json
import pathlib
import runpy
import sys
import traceback
from typing import Any, Callable, Iterator, Optional

import tomllib

HERE = pathlib.Path(__file__).resolve().parent
# This program runs from any directory.
runpy.run_path(str(HERE.parent / "support/checkout.py"))

from adapters.answer import Answer, differences  # noqa: E402

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError  # noqa: E402

#: How a difference begins that is a crash of a driver or of an adapter.
CRASH = "crash: "

Adapter = Callable[[dict[str, Any]], Answer]


@dataclasses.dataclass
class Deviation:
    """A difference from Kata 1.x that is wanted.

    :param id: shell pattern of the ids of lines
    :param part: where in the line, such as `output.steps`; empty for all of it
    :param like: shell pattern of the difference, for what shows itself in many places; a bracket stands for itself
    """

    id: str
    reason: str
    part: str = ""
    like: str = "*"

    def excuses(self, line_id: str, difference: str) -> bool:
        like = self.like.replace("[", "[[]")
        return (
            fnmatch.fnmatchcase(line_id, self.id)
            and difference.startswith(self.part)
            and fnmatch.fnmatchcase(difference, like)
        )


@dataclasses.dataclass
class Tally:
    """How the lines of one file came out."""

    passed: int = 0
    deviating: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)

    def count(self, line_id: str, found: list[str], deviations: list[Deviation]) -> None:
        """Add a line by what differs in it."""
        wrong = [each for each in found if not is_excused(line_id, each, deviations)]
        if not found:
            self.passed += 1
        elif not wrong:
            self.deviating += 1
        else:
            self.failures.append("\n    ".join([line_id, *wrong]))


def load_deviations(name: str = "deviations.toml") -> list[Deviation]:
    with open(HERE / name, "rb") as stream:
        return [Deviation(**entry) for entry in tomllib.load(stream).get("deviation", [])]


def find_adapter(path: pathlib.Path) -> Optional[Adapter]:
    """The adapter whose name the file's base name starts with; the longest wins."""
    names = sorted((file.stem for file in (HERE / "adapters").glob("*.py")), key=len, reverse=True)
    for name in names:
        if path.stem.startswith(name):
            adapter: Adapter = importlib.import_module(f"adapters.{name}").run
            return adapter
    return None


def find_files(paths: list[pathlib.Path]) -> Iterator[tuple[pathlib.Path, bool]]:
    """The files, and whether each was named itself."""
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*.jsonl")):
                yield file, False
        else:
            yield path, True


def check_line(adapter: Adapter, line: dict[str, Any]) -> list[str]:
    """What differs between a line and the answer to it. Any crash counts as a difference."""
    try:
        try:
            answer = adapter(line["input"])
        except HypervisorError as error:
            answer = Answer(error=error)
        return differences(line, answer)
    except NotImplementedError as missing:
        return [f"not ported: {missing}"]
    except Exception:
        return [CRASH + traceback.format_exc(limit=-4)]


def is_excused(line_id: str, difference: str, deviations: list[Deviation]) -> bool:
    """Whether a difference is a listed one. A crash never is."""
    return not difference.startswith(CRASH) and any(entry.excuses(line_id, difference) for entry in deviations)


def check_file(path: pathlib.Path, adapter: Adapter, deviations: list[Deviation]) -> Tally:
    tally = Tally()
    with open(path, encoding="utf-8") as stream:
        for text in stream:
            if not text.strip():
                continue
            line = json.loads(text)
            tally.count(line["id"], check_line(adapter, line), deviations)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the drivers with the recorded answers of Kata 1.x.")
    parser.add_argument(
        "paths", nargs="+", type=pathlib.Path, metavar="PATH", help="a .jsonl file, or a folder of them"
    )
    parser.add_argument("--failures", type=int, default=5, help="how many failures of a file are shown (default 5)")
    arguments = parser.parse_args()
    deviations = load_deviations()
    failed = False
    seen = 0
    for path, named in find_files(arguments.paths):
        seen += 1
        adapter = find_adapter(path)
        if adapter is None:
            print(f"{path.name}: not covered")
            failed = failed or named
            continue
        tally = check_file(path, adapter, deviations)
        print(f"{path.name}: {tally.passed} passed, {len(tally.failures)} failed, {tally.deviating} deviating")
        for failure in tally.failures[: arguments.failures]:
            print(f"  {failure}")
        failed = failed or bool(tally.failures)
    if not seen:
        print("there is no vector file", file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
