# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large files that are built on this host, each with a note of its recipe.

    DIRECTORY/guest.ext4
    DIRECTORY/.guest.ext4.json      the recipe, the file's digest, and facts of the file

The file is built again if its recipe has changed, or if its content is not what was built. The new file replaces the old one atomically, so a VM
that has the old one open keeps it.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import Any, Callable, Iterator

from ..host.atomic_files import draft_directory, locked, make_directories, put_in_place, replace_file, write_problem
from ..host.digests import file_digest
from .image_users import refuse_if_used, users_of
from .kept_images import remove_unused, users_of_built

#: The options about the path of an image; doc_fragments/built_files.py describes them.
IMAGE_SPEC: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
}

#: How long to wait for another task that builds a file in the same directory, seconds; building an image takes minutes.
LOCK_SECONDS = 5400
#: The largest size of a note, bytes.
_MOST_NOTE = 16 << 20
#: The shape of a note.
_NOTE = {"recipe": dict, "sha256": str, "about": dict}
#: The mode of every built file.
MODE = 0o644

#: A function that builds the file in a temporary directory. It returns the file's path there, and facts of the file.
Make = Callable[[str], "tuple[str, dict[str, Any]]"]


class BuiltFile:
    """One built file.

    :param path: where it is, or will be
    """

    def __init__(self, path: str) -> None:
        self.path = path
        #: Other files that are removed with it.
        self.parts: tuple[str, ...] = ()
        self.note_path = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.json")

    def note(self) -> dict[str, Any]:
        """The note about the file; empty if it does not exist or cannot be read."""
        try:
            with open(self.note_path, encoding="utf-8") as stream:
                note = json.loads(stream.read(_MOST_NOTE))
            usable = isinstance(note, dict) and all(isinstance(note.get(key), kind) for key, kind in _NOTE.items())
            return note if usable else {}
        except (OSError, ValueError, RecursionError):
            return {}

    def converge(self, recipe: dict[str, Any], make: Make, check_mode: bool) -> dict[str, Any]:
        """Build the file unless it matches the recipe. Returns the module's result, with the facts of the file in `about`.

        :raises HypervisorError: it cannot be built; the old one stays
        """
        why = self._why(recipe)
        if why:
            # What has a second name is not lost.
            refuse_if_used(users_of(self.path), self.path, "path", self.path)
        if check_mode or not why:
            corrected = [] if why else self._correct_mode(check_mode)
            result = self._result(why, recipe)
            return {**result, "changed": bool(why or corrected), "actions": [*result["actions"], *corrected]}
        with self._lock():
            why = self._why(recipe)
            return self._make(why, recipe, make) if why else self._result("", recipe)

    def remove(self, check_mode: bool) -> dict[str, Any]:
        """Remove the file and its note. Returns the module's result.

        :raises HostError: a root disk is based on it; the error names the sandbox
        """
        refuse_if_used(users_of_built(self.path), self.path, "path", self.path)
        there = [path for path in (self.path, self.note_path, *self.parts) if os.path.lexists(path)]
        for path in [] if check_mode else there:
            os.unlink(path)
        if there and not check_mode:
            remove_unused(self.path)
        return {"changed": bool(there), "actions": [f"remove {self.path}"] if there else [], "path": self.path}

    def _why(self, recipe: dict[str, Any]) -> str:
        """The text of the action that builds the file; empty if it need not be built."""
        note = self.note()
        if not os.path.isfile(self.path):
            return f"make {self.path}"
        if not note:
            return f"make {self.path} again, since its recipe is unknown"
        differing = [
            key
            for key in sorted(recipe.keys() | note.get("recipe", {}).keys())
            if note.get("recipe", {}).get(key) != recipe.get(key)
        ]
        if differing:
            return f"make {self.path} again, with another {', '.join(differing)}"
        return "" if file_digest(self.path) == note.get("sha256") else f"make {self.path} again, since it was altered"

    def _correct_mode(self, check_mode: bool) -> list[str]:
        """Correct the mode of an existing file: all users can read it, and no other user can write to it. Returns the actions."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return []
        if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) == MODE or found.st_uid != os.geteuid():
            return []
        if not check_mode:
            os.chmod(self.path, MODE)
        return [f"correct the mode of {self.path}"]

    def _make(self, why: str, recipe: dict[str, Any], make: Make) -> dict[str, Any]:
        before = self.note()
        directory = os.path.dirname(self.path)
        try:
            with draft_directory(directory) as work:
                made, about = make(work)
                os.chmod(made, MODE)
                note = {"recipe": recipe, "sha256": file_digest(made), "about": about}
                # The file first: if the task is killed in between, the note does not match the file, so the file is built again.
                put_in_place(made, self.path)
                replace_file(self.note_path, (json.dumps(note, indent=1, sort_keys=True) + "\n").encode())
        except OSError as problem:
            raise write_problem(problem, "the file cannot be created", self.path, "path") from problem
        remove_unused(self.path)
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
        """Hold the lock of the directory. A second play waits, and then finds the work done.

        :raises LockTimeout: another task held the lock for too long
        :raises HostError: the directory cannot be created
        """
        directory = os.path.dirname(self.path)
        with contextlib.ExitStack() as stack:
            try:
                make_directories(directory)
                stack.enter_context(
                    locked(os.path.join(directory, ".lock"), LOCK_SECONDS, "the files of this directory", "path")
                )
            except OSError as problem:
                raise write_problem(problem, "the directory cannot be created", directory, "path") from problem
            yield


def _shown(note: dict[str, Any]) -> dict[str, Any]:
    return {key: note[key] for key in ("recipe", "sha256") if key in note}
