# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-only access to a template: where it is, whether it can be used, and the configuration of its clones.

A template is a sandbox that was booted and saved and never runs again. It has directories of its own. `template_building.py` creates it.
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

#: The options that name files that a template was booted from. Their content must not change.
FILES = ("kernel_path", "initrd_path", "image_path", "initramfs_path", "firmware_path")

#: The fix for a template that cannot be used.
CREATE_AGAIN = "Create the template again, with kata_template."


class Template:
    """An existing template."""

    def __init__(self, layout: TemplateLayout, record: SandboxRecord) -> None:
        self.layout = layout
        self.record = record

    @classmethod
    def open(cls, name: str, where: SandboxSpec) -> Template:
        """Open a template by its name and check that it can be used.

        :param where: a spec with the directories
        :raises StateError: it does not exist, it is incomplete, or a file that it was created from has changed
        """
        layout = TemplateLayout(name, where.state_dir, where.run_dir)
        record = Store(layout).load()
        if record is None:
            raise StateError(
                f"there is no such template: {layout.record_path} does not exist",
                option="template",
                wanted=name,
                fix="Create it first, with kata_template.",
            )
        template = cls(layout, record)
        stale = template.why_stale()
        if stale:
            raise StateError(
                f"the template cannot be used: {'; '.join(stale)}", option="template", wanted=name, fix=CREATE_AGAIN
            )
        return template

    def why_stale(self) -> list[str]:
        """The reasons why the template must not be used, as far as they can be found without its hypervisor. Empty if it can be used."""
        if self.record.phase != SETTLED or not self.record.saved_state:
            return ["it is incomplete"]
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
        """The file with the template's memory."""
        return str(self.record.template.get("memory", ""))

    def options(self) -> dict[str, Any]:
        """The options that the template was created with, by name."""
        return self.record.effective()

    def configuration_of_clone(self, hypervisor: str, options: Mapping[str, Any]) -> HypervisorConfig:
        """The configuration of a clone.

        :param options: the options that the clone's tasks have set, by name
        :raises StateError: the template is of another hypervisor
        :raises ConfigError: an option must be the same in the template and its clones, and differs
        """
        if hypervisor != self.record.hypervisor:
            raise StateError(
                f"the clone's hypervisor must be the template's, {self.record.hypervisor}",
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
                fix="Omit it, or use another template.",
            )
        return dataclasses.replace(
            wanted,
            boot_from_template=True,
            memory_path=self.memory_path,
            devices_state_path=self.record.saved_state,
        )

    def _is_same_file(self, option: str, path: Any) -> bool:
        """Whether another path leads to a file with the content that the template was created from."""
        for file in self.record.template.get("files", []):
            if file["option"] == option and isinstance(path, str) and os.path.isfile(path):
                return bool(file_digest(path, "sha512") == file["sha512"])
        return False

    @contextlib.contextmanager
    def reading(self, timeout: float) -> Iterator[None]:
        """Hold the template's lock, so that it is not removed or replaced meanwhile.

        :param timeout: seconds to wait for a task that is removing or replacing it
        """
        with Store(self.layout).lock(timeout, shared=True):
            yield

    def has_changed(self) -> bool:
        """Whether the template has changed since it was opened."""
        return Store(self.layout).load() != self.record


def describe_files(options: Mapping[str, Any]) -> list[dict[str, str]]:
    """The files that a template is created from, each with its identity and its digest."""
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
    """Why a file is not the one that was described; empty if it is. Its content is read only if its inode, size or time has changed."""
    option, path = file["option"], file["path"]
    if fingerprint(path) == file["is"]:
        return []
    if not os.path.isfile(path):
        return [f"{option} {path} is gone"]
    return (
        []
        if file_digest(path, "sha512") == file["sha512"]
        else [f"{option} {path} has changed since the template was created"]
    )
