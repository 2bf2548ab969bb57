# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules kata_volume and kata_volume_info do."""

from __future__ import annotations

from typing import Any, Mapping

from ..records.layout import clean_path
from . import volumes
from .volumes import CHOICES, Volume, VolumeRequest

#: The options of kata_volume, without those of the directories.
VOLUME_SPEC: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
    "size_mb": {"type": "int"},
    "filesystem": {"type": "str", "choices": list(CHOICES)},
    "label": {"type": "str"},
    "force": {"type": "bool", "default": False},
}


def converge_volume(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Create, grow or remove a volume. Returns the module's result. Check mode does the same checks and changes nothing.

    :raises HypervisorError: it is not possible; nothing was changed
    """
    root = clean_path(params["state_dir"], "state_dir")
    name = volumes.check_name(params["name"])
    if not check_mode:
        volumes.tidy(root)
    before = volumes.find_volume(root, name)
    if params["state"] == "absent":
        return _remove(root, name, before, params["force"], check_mode)
    size = params["size_mb"]
    if size is not None and size < 1:
        raise volumes.wrong_size(size)
    request = VolumeRequest(name, size or 0, params["filesystem"] or "", params["label"])
    warnings = volumes.plan_volume(root, request)
    actions = []
    if before is None:
        actions.append(f"create volume {name}")
        after = volumes.new_volume(root, request) if check_mode else volumes.create_volume(root, request)
    elif size and size > before.size_mb:
        actions.append(f"grow volume {name} from {before.size_mb} to {size} MiB")
        volumes.check_growable(root, before)
        after = volumes.grown(before, size) if check_mode else volumes.grow_volume(root, name, size)
    else:
        after = before
    return _result(actions, before, after, warnings, {} if check_mode and before is None else _users(root, name))


def _remove(root: str, name: str, before: Volume | None, force: bool, check_mode: bool) -> dict[str, Any]:
    if before is None:
        return _result([], None, None, [], {})
    if check_mode:
        volumes.check_removable(root, name, force)
    else:
        volumes.remove_volume(root, name, force)
    return _result([f"remove volume {name}"], before, None, [], {})


def _users(root: str, name: str) -> dict[str, bool]:
    return volumes.users_of_volume(root, name)


def _result(
    actions: list[str], before: Volume | None, after: Volume | None, warnings: list[str], users: dict[str, bool]
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "changed": bool(actions),
        "actions": actions,
        "diff": {"before": _shown(before), "after": _shown(after)},
        "warnings": warnings,
    }
    if after is not None:
        result["volume"] = {**after.facts(), **_listed(users)}
    return result


def _shown(volume: Volume | None) -> dict[str, Any]:
    """What a diff shows of a volume."""
    if volume is None:
        return {}
    return {"name": volume.name, "size_mb": volume.size_mb, "filesystem": volume.filesystem, "label": volume.label}


def _listed(users: Mapping[str, bool]) -> dict[str, Any]:
    return {"sandboxes": [{"id": user, "read_only": reads} for user, reads in sorted(users.items())]}


def list_facts(state_dir: str, name: str | None) -> list[dict[str, Any]]:
    """The facts of all volumes, or of one.

    :raises HypervisorError: one cannot be read
    """
    root = clean_path(state_dir, "state_dir")
    if name is None:
        found = volumes.list_volumes(root)
    else:
        one = volumes.find_volume(root, name)
        found = [one] if one else []
    return [{**volume.facts(), **_listed(_users(root, volume.name))} for volume in found]
