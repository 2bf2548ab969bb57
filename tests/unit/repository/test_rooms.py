# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rooms of docs/architecture.md keep to their floors: read from the imports, lazy ones too."""

from __future__ import annotations

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
ROOMS = ROOT / "plugins/module_utils"
PACKAGE = "ansible_collections.kata.hypervisor.plugins.module_utils"
FILES = sorted(path for path in ROOMS.rglob("*.py") if path.stat().st_size)
#: What stands above all drivers.
ABOVE_DRIVERS = {
    "plan",
    "steps",
    "situation",
    "operations",
    "sandbox",
    "sandboxes",
    "template",
    "template_making",
    "autostart",
    "arguments",
}


def imports(path: pathlib.Path) -> set[str]:
    """The modules that a file names in its imports, absolute; of a package also what is taken from it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute, or Ansible does not ship what they name"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def rooms(path: pathlib.Path) -> set[str]:
    """The rooms of this collection that a file imports from, as paths below module_utils."""
    names = {name[len(PACKAGE) + 1 :].replace(".", "/") for name in imports(path) if name.startswith(f"{PACKAGE}.")}
    return {name for name in names if (ROOMS / f"{name}.py").exists() or (ROOMS / name).is_dir()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOMS)))
def test_a_host_needs_the_standard_library_alone(path: pathlib.Path) -> None:
    outside = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"ansible_collections"}
    # Ansible ships its own module for URLs with a module that imports it.
    assert outside == ({"ansible"} if path.name == "urls.py" else set())


def test_no_driver_knows_another() -> None:
    drivers = [path for path in (ROOMS / "hypervisors").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert sorted(driver.name for driver in drivers) == ["acrn", "firecracker", "qemu"]
    for driver in drivers:
        others = {other.name for other in drivers if other != driver} | {"mock"}
        for path in driver.rglob("*.py"):
            known = {name for name in rooms(path) if name.startswith("hypervisors/") and name.split("/")[1] in others}
            assert known == set(), path


def test_no_driver_knows_what_drives_it() -> None:
    for path in (ROOMS / "hypervisors").rglob("*.py"):
        assert rooms(path) & ABOVE_DRIVERS == set(), path


def test_the_planner_touches_no_host() -> None:
    impure = {"os", "subprocess", "socket", "shutil", "pathlib", "time"}
    for name in (
        "plan",
        "steps",
        "situation",
        "params",
        "fields",
        "hypervisors/qemu/cmdline",
        "hypervisors/qemu/parts",
        "hypervisors/qemu/argv",
    ):
        assert imports(ROOMS / f"{name}.py") & impure == set(), name


def test_provisioning_and_sandboxes_are_apart() -> None:
    for path in (ROOMS / "provisioning").glob("*.py"):
        # It may ask a driver's tables, such as which versions have known holes.
        assert rooms(path) & ABOVE_DRIVERS == set(), path
    for path in FILES:
        if path.parent.name != "provisioning":
            assert {name for name in rooms(path) if name.startswith("provisioning")} == set(), path
