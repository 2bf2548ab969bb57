# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a sandbox keeps its files, what its id may be, and how long a socket's path may get."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from typing import Any

from ..errors import ConfigError

STATE_ROOT = "/var/lib/kata-hypervisor"
RUN_ROOT = "/run/kata-hypervisor"

SANDBOX_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")

#: Bytes of a unix socket's path: `sun_path` has 108 and ends in a zero.
MAX_SOCKET_PATH = 107


def id_text(given: Any) -> Any:
    """An id as text: YAML makes a number of `id: 1`, and a task means the text. Anything else is returned as it is."""
    return str(given) if isinstance(given, (int, float)) and not isinstance(given, bool) else given


def clean_path(path: Any, option: str) -> str:
    """A path with single slashes, without `.`, `..` and a slash at its end, so that the same file has one spelling.

    `..` stays behind a symbolic link, where it means something else than the text says.

    :raises ConfigError: it is not an absolute path, or has a line break or another character that cannot be printed
    """
    if not isinstance(path, str) or not path.startswith("/"):
        raise ConfigError("must be an absolute path", option=option, wanted=path)
    if not path.isprintable():
        raise ConfigError("must not have a line break or another control character", option=option, wanted=path)
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and (not parts or (parts[-1] != ".." and not os.path.islink("/" + "/".join(parts)))):
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def same_path(one: Any, other: Any) -> bool:
    """Whether two values are the same path; earlier versions recorded a path as it was spelled."""
    return isinstance(one, str) and one.startswith("/") and one.isprintable() and clean_path(one, "") == other


def validate_id(sandbox_id: str) -> str:
    """The id, when it can name a sandbox.

    :raises ConfigError: it is not 1 to 64 characters of A-Z, a-z, 0-9, dot, underscore and dash, or starts with a dot or dash
    """
    if not isinstance(sandbox_id, str) or not SANDBOX_ID.fullmatch(sandbox_id):
        raise ConfigError(
            "must be a valid id",
            option="id",
            wanted=sandbox_id,
            fix="Use 1 to 64 of the characters A-Z a-z 0-9 . _ - and start with none of dot and dash.",
        )
    return sandbox_id


def join_path(*elements: str) -> str:
    """The elements joined and cleaned; an absolute element does not start the path again, and empty ones do not count."""
    path = "/".join(element for element in elements if element)
    if not path:
        return ""
    cleaned = os.path.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("/") else cleaned


def socket_path(*elements: str) -> str:
    """The path of a unix socket, joined and cleaned.

    :raises ConfigError: it is empty, or longer than the 107 bytes that the kernel takes
    """
    path = join_path(*elements)
    if not path:
        raise ConfigError("a socket needs a path")
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError as error:
        raise ConfigError(
            "a socket's path must be text that the file system can write", wanted=path, answer=str(error)
        ) from error
    if size > MAX_SOCKET_PATH:
        raise ConfigError(
            f"the socket path {path} has {size} bytes; the kernel takes {MAX_SOCKET_PATH} at most",
            option="run_dir",
            fix="Choose a shorter run_dir or a shorter id.",
        )
    return path


@dataclasses.dataclass(frozen=True)
class SandboxLayout:
    """The directories and files of one sandbox. Nothing is created here.

    :param id: the sandbox's id, refused before a path is built from it
    :param state_root: what outlives a reboot
    :param run_root: what does not
    :raises ConfigError: the id cannot name a sandbox, or a root is not an absolute path
    """

    id: str
    state_root: str = STATE_ROOT
    run_root: str = RUN_ROOT

    def __post_init__(self) -> None:
        validate_id(self.id)
        object.__setattr__(self, "state_root", clean_path(self.state_root, "state_dir"))
        object.__setattr__(self, "run_root", clean_path(self.run_root, "run_dir"))

    @property
    def host_name(self) -> str:
        """The sandbox's unique name on the host, for units and interfaces: its id and, if its directories are not the default ones, a suffix.

        Every character of an id may stand in a unit's name; a colon, which no id has, sets off what follows.
        """
        if (self.state_root, self.run_root) == (STATE_ROOT, RUN_ROOT):
            return self.id
        import hashlib

        roots = f"{self.state_root}\0{self.run_root}"
        return f"{self.id}:{hashlib.sha256(os.fsencode(roots)).hexdigest()[:8]}"

    @functools.cached_property
    def state_dir(self) -> str:
        """Directory of the record, the lock and saved state."""
        return join_path(self.state_root, "sandboxes", self.id)

    @functools.cached_property
    def run_dir(self) -> str:
        """Directory of sockets, pid file and logs."""
        return join_path(self.run_root, self.id)

    @functools.cached_property
    def record_path(self) -> str:
        """The sandbox's record."""
        return join_path(self.state_dir, "record.json")

    @functools.cached_property
    def lock_path(self) -> str:
        """The file that is locked while the sandbox is worked on."""
        return join_path(self.state_dir, "lock")

    def socket_path(self, *elements: str) -> str:
        """A socket below the run directory.

        :raises ConfigError: the path is too long
        """
        return socket_path(self.run_dir, *elements)


UNIT_PREFIX = "kata-sandbox-"


def unit_stem(layout: SandboxLayout) -> str:
    """A sandbox's units' name without its ending. Sandboxes of other directories than the usual ones do not share it."""
    return UNIT_PREFIX + layout.host_name


MEMORY_FILE = "memory"


class TemplateLayout(SandboxLayout):
    """Where a template keeps its files: not where sandboxes are looked for, and not where one could be (ids start with no dot)."""

    @functools.cached_property
    def state_dir(self) -> str:
        """Directory of the record, the lock, the devices' state and, unless `memory_dir` is set, the memory."""
        return join_path(self.state_root, "templates", self.id)

    @functools.cached_property
    def run_dir(self) -> str:
        """Directory of sockets and logs while it is made."""
        return join_path(self.run_root, f".template-{self.id}")

    def memory_path(self, memory_dir: str | None) -> str:
        """The memory file, below `memory_dir` or the state directory."""
        directory = join_path(memory_dir, self.id) if memory_dir else join_path(self.state_dir, "ram")
        return join_path(directory, MEMORY_FILE)
