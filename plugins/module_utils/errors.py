# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of this collection. Each one holds what was requested, what the VMM or the kernel answered, and what to do next.

Nothing below the modules calls `fail_json`. Code raises one of these errors instead, so that a task about many sandboxes goes on when one of
them fails. A module turns an error into its result with `fail_on_error`.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterator


def printable(text: str, lines: bool = True) -> str:
    """A text that is safe to print on a terminal: characters that are not printable are replaced by escapes (`\\x1b`).

    :param lines: keep line breaks and tabs
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(
        one if one.isprintable() or one in kept else one.encode("unicode_escape").decode("ascii") for one in text
    )


class HypervisorError(Exception):
    """Base of every error this collection raises on purpose.

    :param message: what happened, a sentence without the sandbox's name
    :param sandbox: id of the sandbox concerned
    :param option: name of the task option that caused the error
    :param wanted: the requested value or operation
    :param answer: the answer of the VMM or the kernel, verbatim
    :param log: path of the log to read
    :param fix: what the user can do next
    """

    def __init__(
        self,
        message: str,
        *,
        sandbox: str = "",
        option: str = "",
        wanted: Any = None,
        answer: str = "",
        log: str = "",
        fix: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.sandbox = sandbox
        self.option = option
        self.wanted = wanted
        self.answer = answer
        self.log = log
        self.fix = fix
        #: Whether the engine has added the sandbox and the log.
        self.explained = False

    def __str__(self) -> str:
        parts = [f"sandbox {self.sandbox}: {self.message}" if self.sandbox else self.message]
        if self.option and self.wanted is not None:
            parts.append(f"Option {self.option} was {self.wanted!r}.")
        elif self.option:
            parts.append(f"The option is {self.option}.")
        if self.answer:
            parts.append(f"The answer was: {self.answer}")
        if self.log:
            parts.append(f"See {self.log}.")
        if self.fix:
            parts.append(self.fix)
        # The message and the answer may contain text that a guest printed.
        return printable(" ".join(part if part.endswith((".", "!", "?", ":")) else part + "." for part in parts))

    def as_result(self) -> dict[str, Any]:
        """The fields that the error adds to a module's result, next to `msg`."""
        fields = {
            "kind": type(self).__name__,
            "sandbox": self.sandbox,
            "option": self.option,
            "wanted": self.wanted,
            "answer": printable(self.answer),
            "log": self.log,
            "fix": self.fix,
        }
        return {name: value for name, value in fields.items() if value not in ("", None)}


class ConfigError(HypervisorError):
    """An option is missing, contradictory or impossible. Nothing was changed."""


class NeedsRestart(ConfigError):
    """The running VM cannot get this, because it was started without it. It works after a restart."""


class AssetError(HypervisorError):
    """A kernel, image, initrd, firmware or binary is missing, unreadable, empty or has another digest."""


class HostError(HypervisorError):
    """The host lacks something: memory, a device, a kernel feature, space on a disk."""


class StateError(HypervisorError):
    """The operation is not possible in the sandbox's current state."""


class DisruptionError(StateError):
    """The change needs a restart or a new VM, and the task does not allow that."""


class Unsupported(HypervisorError):
    """This driver, or this version of the VMM, cannot do the operation."""


class VmmError(HypervisorError):
    """The VMM refused the operation, ended, or sent an answer that cannot be parsed."""


class LaunchError(VmmError):
    """The VMM did not start. The error holds its exit code, its command line and the end of its log."""

    def __init__(
        self, message: str, *, exit_code: int | None = None, argv: list[str] | None = None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.exit_code = exit_code
        self.argv = list(argv or [])

    def as_result(self) -> dict[str, Any]:
        return {**super().as_result(), "exit_code": self.exit_code, "argv": self.argv}


class DeadlineExceeded(VmmError):
    """An operation did not finish within its time limit."""


class StoreError(HypervisorError):
    """A record could not be read, written or locked."""


class LockTimeout(StoreError):
    """Another task held the sandbox's lock for longer than `lock_timeout`."""


@contextlib.contextmanager
def fail_on_error(module: Any) -> Iterator[None]:
    """Turn an error that is raised in this block into a failure of the module.

    :param module: an `AnsibleModule`
    """
    try:
        yield
    except HypervisorError as problem:
        module.fail_json(msg=str(problem), **problem.as_result())
