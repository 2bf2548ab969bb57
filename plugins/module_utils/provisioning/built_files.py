# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A large file that was made on this host, and a note beside it of what it was made from.

    DIRECTORY/guest.ext4
    DIRECTORY/.guest.ext4.json      the recipe, the file's digest, and what is worth telling of it

It is made anew when the recipe is another one, or when the file is no longer what was made. The new one is made aside and takes the old one's place in
one step, so a VM that has the old one open keeps it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
from typing import Any, Callable, Iterator

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.sources import file_digest

#: The options that say where an image is; doc_fragments/built_files.py describes them.
IMAGE_SPEC: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
}

#: Makes the file in a directory that is thrown away afterwards; its path there, and what is worth telling of it.
Make = Callable[[str], "tuple[str, dict[str, Any]]"]


class BuiltFile:
    """One such file.

    :param path: where it is, or shall be
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.note_path = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.json")

    def note(self) -> dict[str, Any]:
        """What was noted when it was made; empty when nothing was, or when it cannot be read."""
        try:
            with open(self.note_path, encoding="utf-8") as stream:
                note = json.load(stream)
            return note if isinstance(note, dict) else {}
        except (OSError, ValueError):
            return {}

    def converge(self, recipe: dict[str, Any], make: Make, check_mode: bool) -> dict[str, Any]:
        """Have the file as the recipe says; what a module returns, with what was noted about it in C(about).

        :raises HypervisorError: it cannot be made; the old one stays
        """
        if check_mode or self._why(recipe) == "":
            return self._result(self._why(recipe), recipe)
        with self._lock():
            why = self._why(recipe)
            return self._make(why, recipe, make) if why else self._result("", recipe)

    def remove(self, check_mode: bool) -> dict[str, Any]:
        """Have no such file."""
        there = [path for path in (self.path, self.note_path) if os.path.lexists(path)]
        for path in [] if check_mode else there:
            os.unlink(path)
        return {"changed": bool(there), "actions": [f"remove {self.path}"] if there else [], "path": self.path}

    def _why(self, recipe: dict[str, Any]) -> str:
        """Why it must be made; empty when it need not."""
        note = self.note()
        if not os.path.isfile(self.path):
            return f"make {self.path}"
        if not note:
            return f"make {self.path} anew, of which nothing tells how it was made"
        differing = [key for key in sorted(recipe.keys() | note.get("recipe", {}).keys()) if note.get("recipe", {}).get(key) != recipe.get(key)]
        if differing:
            return f"make {self.path} anew, with another {', '.join(differing)}"
        return "" if file_digest(self.path) == note.get("sha256") else f"make {self.path} anew, which was altered"

    def _make(self, why: str, recipe: dict[str, Any], make: Make) -> dict[str, Any]:
        before = self.note()
        directory = os.path.dirname(self.path)
        try:
            work = tempfile.mkdtemp(prefix=".new-", dir=directory)
            try:
                made, about = make(work)
                with open(made, "rb") as stream:
                    os.fsync(stream.fileno())
                os.chmod(made, 0o644)
                note = {"recipe": recipe, "sha256": file_digest(made), "about": about}
                draft = os.path.join(work, "note.json")
                with open(draft, "w", encoding="utf-8") as text:
                    text.write(json.dumps(note, indent=1, sort_keys=True) + "\n")
                os.replace(made, self.path)
                os.replace(draft, self.note_path)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        except OSError as problem:
            full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
            raise HostError(
                "the disk is full" if full else "the file cannot be made",
                option="path",
                wanted=self.path,
                answer=str(problem),
                fix="What was there before is still there." + (" Make room there." if full else ""),
            ) from problem
        return {**self._result(why, recipe), "diff": {"before": _shown(before), "after": _shown(self.note())}}

    def _result(self, why: str, recipe: dict[str, Any]) -> dict[str, Any]:
        note = self.note()
        current = {} if why and note.get("recipe") != recipe else note
        after = _shown(note) if not why else {"recipe": recipe}
        return {
            "changed": bool(why),
            "actions": [why] if why else [],
            "path": self.path,
            "sha256": current.get("sha256", ""),
            "size": os.path.getsize(self.path) if current and os.path.isfile(self.path) else 0,
            "about": current.get("about", {}),
            "diff": {"before": _shown(note), "after": after},
        }

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One play at a time: a second one waits, and finds the work done."""
        directory = os.path.dirname(self.path)
        try:
            os.makedirs(directory, mode=0o755, exist_ok=True)
            descriptor = os.open(os.path.join(directory, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise HostError("the directory cannot be made", option="path", wanted=directory, answer=str(problem)) from problem
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _shown(note: dict[str, Any]) -> dict[str, Any]:
    return {key: note[key] for key in ("recipe", "sha256") if key in note}
