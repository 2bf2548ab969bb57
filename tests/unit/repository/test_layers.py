# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of `plugins/module_utils` keep to their layers (`tools/layers.py`). Read from all imports: lazy ones, and those for types, too."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
import pathlib
import sys
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
MODULE_UTILS = ROOT / "plugins/module_utils"
PACKAGE = "ansible_collections.kata.hypervisor.plugins.module_utils"
FILES = sorted(str(path.relative_to(MODULE_UTILS)) for path in MODULE_UTILS.rglob("*.py"))

_spec = importlib.util.spec_from_file_location("layers", ROOT / "tools/layers.py")
assert _spec is not None and _spec.loader is not None
layers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(layers)

#: Modules of the standard library by which code reaches the host.
IMPURE = {"fcntl", "glob", "os", "pathlib", "shutil", "signal", "socket", "subprocess", "tempfile", "time"}


class Imports(NamedTuple):
    """What a file imports.

    :param ours: files of module_utils, below it
    :param others: the first part of the names of other modules
    """

    ours: frozenset[str]
    others: frozenset[str]


def module_file(parts: list[str]) -> str:
    """The file of a module below module_utils, empty where there is none."""
    for path in ("/".join(parts) + ".py", "/".join([*parts, "__init__.py"])):
        if parts and (MODULE_UTILS / path).is_file():
            return path
    return ""


def imports(name: str, source: str) -> Imports:
    """The imports of a file of module_utils, wherever they stand in it."""
    ours, others = set(), set()
    package = name.split("/")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            others.add(str(node.module).split(".", maxsplit=1)[0])
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                found = module_file([*base, alias.name]) or module_file(base)
                assert found, f"{name} imports {alias.name} from {'.'.join(base)}, which does not exist"
                ours.add(found)
    return Imports(frozenset(ours), frozenset(others))


GRAPH = {name: imports(name, (MODULE_UTILS / name).read_text(encoding="utf-8")) for name in FILES}


def package_of(name: str) -> str:
    """The package of the top that a file belongs to; a file beside the packages is one of its own."""
    return name.split("/")[0].removesuffix(".py")


def driver_of(name: str) -> str:
    """The driver that a file belongs to, empty where it is none's."""
    parts = name.split("/")
    if parts[0] != "hypervisors" or parts[1] in ("__init__.py", "base.py", "host_facts.py", "common"):
        return ""
    return parts[1].removesuffix(".py")


def test_the_table_names_the_packages_that_exist() -> None:
    found = {package_of(name) for name in FILES if name != "__init__.py"}
    assert found == set(layers.LAYERS)
    loose = [name for name in FILES if "/" not in name]
    assert loose == ["__init__.py", "architectures.py", "errors.py"]
    # ansible-test wants it empty; without it, pylint does not find what relative imports name.
    assert not (MODULE_UTILS / "__init__.py").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_a_host_needs_the_standard_library_alone(name: str) -> None:
    outside = GRAPH[name].others - set(sys.stdlib_module_names)
    # Ansible ships its own module for URLs with a module that imports it.
    assert outside == ({"ansible"} if name == "provisioning/urls.py" else set())


@pytest.mark.parametrize("name", FILES)
def test_imports_go_to_lower_layers(name: str) -> None:
    own = package_of(name)
    upward = {
        used
        for used in GRAPH[name].ours
        if package_of(used) != own and layers.LAYERS[package_of(used)].layer >= layers.LAYERS[own].layer
    }
    assert upward == set()


def test_no_cycles() -> None:
    # A package's own file stands for the package: importing from it is no import of what lies below it.
    graphlib.TopologicalSorter({name: found.ours - {name} for name, found in GRAPH.items()}).prepare()


def test_no_driver_imports_another() -> None:
    drivers = {driver_of(name) for name in FILES} - {""}
    assert {"acrn", "firecracker", "mock", "qemu"} <= drivers
    for name in FILES:
        if driver_of(name):
            assert {driver_of(used) for used in GRAPH[name].ours} <= {"", driver_of(name)}, name


def test_drivers_import_no_registry() -> None:
    for name in FILES:
        if driver_of(name):
            assert "hypervisors/__init__.py" not in GRAPH[name].ours, name


@pytest.mark.parametrize("name", layers.PURE)
def test_a_pure_module_reaches_no_host(name: str) -> None:
    assert GRAPH[name].others & IMPURE == set()
    of_the_host = {used for used in GRAPH[name].ours if package_of(used) == "host" and used not in layers.PURE}
    assert of_the_host == set()


@pytest.mark.parametrize("name", FILES)
def test_the_boot_program_finds_the_imports_that_python_finds(name: str) -> None:
    from ansible_collections.kata.hypervisor.plugins.module_utils.delivery.boot_program import imported_names

    package = ".".join(name.split("/")[:-1])
    found = {module_file(one.split(".")) for one in imported_names((MODULE_UTILS / name).read_bytes(), package)}
    assert GRAPH[name].ours <= found
