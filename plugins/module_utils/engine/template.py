# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A template as its clones see it: where it is, whether it may be used, and what a clone of it is made from.

A template is a sandbox that was booted, saved and is never woken again, with directories of its own. `template_making.py` makes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import ConfigError, StateError
from ..host.boot_cache import fingerprint
from ..host.digests import file_digest
from ..options.config import HypervisorConfig
from ..options.declarations import options_of
from ..options.spec import SandboxSpec, make_config
from ..records.layout import TemplateLayout
from ..records.record import SETTLED, SandboxRecord
from ..records.store import Store
from .clone_compatibility import config_differences

#: The options that name files of which a template holds a copy in its memory, or needs the very same.
FILES = ("kernel_path", "initrd_path", "image_path", "initramfs_path", "firmware_path")

#: What can be done about a template that cannot be used.
MAKE_ANEW = "Create the template again, with kata_template."


class Template:
    """A template that is there.

    :param where: names the directories
    """

    def __init__(self, layout: TemplateLayout, record: SandboxRecord) -> None:
        self.layout = layout
        self.record = record

    @classmethod
    def open(cls, name: str, where: SandboxSpec) -> Template:
        """The template of that name, checked.

        :raises StateError: there is none, it is unfinished, or a file it was made from is another one now
        """
        layout = TemplateLayout(name, where.state_dir, where.run_dir)
        record = Store(layout).load()
        if record is None:
            raise StateError(
                f"there is no such template: {layout.record_path} does not exist",
                option="template",
                wanted=name,
                fix="Make it first, with kata_template.",
            )
        template = cls(layout, record)
        stale = template.why_stale()
        if stale:
            raise StateError(
                f"the template cannot be used: {'; '.join(stale)}", option="template", wanted=name, fix=MAKE_ANEW
            )
        return template

    def why_stale(self) -> list[str]:
        """Why it must not be used, as far as that can be seen without its hypervisor; empty when it may be."""
        if self.record.phase != SETTLED or not self.record.saved_state:
            return ["it was not finished"]
        known = self.record.template
        reasons = [reason for file in known.get("files", []) for reason in _why_another_file(file)]
        if not os.path.exists(self.memory_path):
            reasons.append(f"its memory {self.memory_path} is gone")
        elif known.get("memory_is") not in (None, fingerprint(self.memory_path)):
            reasons.append(f"its memory {self.memory_path} was written to")
        if not os.path.exists(self.record.saved_state):
            reasons.append(f"its devices' state {self.record.saved_state} is gone")
        return reasons

    @property
    def memory_path(self) -> str:
        """The file of its memory."""
        return str(self.record.template.get("memory", ""))

    def options(self) -> dict[str, Any]:
        """The options it was made with, by name."""
        return self.record.effective()

    def configuration_of_clone(self, hypervisor: str, options: Mapping[str, Any]) -> HypervisorConfig:
        """The configuration of a VM that begins from it.

        :param options: the options that the clone's tasks have given, by name
        :raises StateError: it is of another hypervisor
        :raises ConfigError: the clone differs where it cannot
        """
        if hypervisor != self.record.hypervisor:
            raise StateError(
                f"the template is of hypervisor {self.record.hypervisor}",
                option="hypervisor",
                wanted=hypervisor,
                fix=f"Give hypervisor={self.record.hypervisor}.",
            )
        own = {**self.options(), "template": self.layout.id}
        wanted = make_config({**own, **options})
        names = {declared.attribute: declared.name for declared in options_of(HypervisorConfig)}
        different = [names.get(field, field) for field in config_differences(make_config(own), wanted)]
        different = [name for name in different if not self._is_same_file(name, options.get(name))]
        if different:
            what = ", ".join(f"{name} {own.get(name) or 'none'}" for name in different)
            raise ConfigError(
                f"the template was created with {what}; its clones must have the same",
                option=different[0],
                wanted=options.get(different[0]),
                fix="Leave it out, or use another template.",
            )
        return dataclasses.replace(
            wanted,
            boot_from_template=True,
            memory_path=self.memory_path,
            devices_state_path=self.record.saved_state,
        )

    def _is_same_file(self, option: str, path: Any) -> bool:
        """Whether a file under another name has the content that the template was made from."""
        for file in self.record.template.get("files", []):
            if file["option"] == option and isinstance(path, str) and os.path.isfile(path):
                return bool(file_digest(path, "sha512") == file["sha512"])
        return False

    @contextlib.contextmanager
    def reading(self, timeout: float) -> Iterator[None]:
        """Keep it from being removed or replaced meanwhile.

        :param timeout: seconds to wait for a task that does so just now
        """
        with Store(self.layout).lock(timeout, shared=True):
            yield

    def has_changed(self) -> bool:
        """Whether it is not what it was when it was opened."""
        return Store(self.layout).load() != self.record


def describe_files(options: Mapping[str, Any]) -> list[dict[str, str]]:
    """The files that a template is made from, each with what tells it from another one."""
    return [
        {
            "option": option,
            "path": options[option],
            "is": fingerprint(options[option]),
            "sha512": file_digest(options[option], "sha512"),
        }
        for option in FILES
        if options.get(option) and os.path.isfile(options[option])
    ]


def _why_another_file(file: Mapping[str, str]) -> list[str]:
    """Whether a file is another one than when it was described. Its content is read only when its inode, size or time is another one."""
    option, path = file["option"], file["path"]
    if fingerprint(path) == file["is"]:
        return []
    if not os.path.isfile(path):
        return [f"{option} {path} is gone"]
    return (
        []
        if file_digest(path, "sha512") == file["sha512"]
        else [f"{option} {path} is another file than it was made with"]
    )
