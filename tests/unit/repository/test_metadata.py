# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection says of itself agrees with what is in it."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest
import yaml

from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import HYPERVISORS

ROOT = pathlib.Path(__file__).resolve().parents[3]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())


def read(path: pathlib.Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_an_execution_environment_gets_what_the_controller_needs(tmp_path: pathlib.Path) -> None:
    """Certified collections must not name ansible-core, nor upper bounds."""
    builder = pathlib.Path(sys.executable).with_name("ansible-builder")
    namespace = tmp_path / "ansible_collections" / "kata"
    namespace.mkdir(parents=True)
    (namespace / "hypervisor").symlink_to(ROOT)
    done = subprocess.run([builder, "introspect", tmp_path], capture_output=True, text=True, check=True)
    needed = yaml.safe_load(done.stdout.partition("---")[2])
    assert [line.split()[0] for line in needed["python"]] == ["jmespath"]
    assert not any(word in line for line in needed["python"] for word in ("<", "ansible"))
    assert {line.split()[0] for line in needed["system"]} == {"openssh-client", "openssh-clients"}


def test_the_tarball_has_no_tests_and_no_tools() -> None:
    ignored = set(read(ROOT / "galaxy.yml")["build_ignore"])
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    top = {name.split("/")[0] for name in tracked} - ignored
    assert top <= {
        "CHANGELOG.rst",
        "CONTRIBUTING.md",
        "LICENSE",
        "LICENSES",
        "README.md",
        "REUSE.toml",
        "SECURITY.md",
        "changelogs",
        "docs",
        "galaxy.yml",
        "meta",
        "playbooks",
        "plugins",
        "roles",
    }


def test_the_action_group_holds_the_modules_that_take_its_defaults() -> None:
    """A default for the group goes to every module in it, and a module that lacks the option fails."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "plugins/modules").glob("*.py")}
    fragments = {name: {line.strip("- ") for line in text.splitlines()} for name, text in texts.items()}
    take_directories = sorted(name for name, used in fragments.items() if "kata.hypervisor.directories" in used)
    in_group = sorted(name for name, used in fragments.items() if "kata.hypervisor.attributes.actiongroup_kata" in used)
    assert read(ROOT / "meta/runtime.yml")["action_groups"]["kata"] == take_directories == in_group


def test_the_readme_names_every_module_and_role() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = [path.stem for path in (ROOT / "plugins/modules").glob("*.py")] + [role.name for role in ROLES]
    assert [name for name in names if f"`{name}`" not in readme] == []


def documented_hypervisors(text: str) -> list[list[str]]:
    """The choices of every documented option that chooses a hypervisor."""
    lists = [re.findall(r"\w+", found) for found in re.findall(r"choices:\s*\[([^\]]*)\]", text)]
    return [names for names in lists if "mock" in names]


def test_each_choice_of_a_hypervisor_documents_all_drivers() -> None:
    found = {
        path.name: documented_hypervisors(path.read_text(encoding="utf-8"))
        for folder in ("modules", "doc_fragments")
        for path in sorted((ROOT / "plugins" / folder).glob("*.py"))
    }
    places = {name for name, lists in found.items() if lists}
    assert {"kata_sandbox_info.py", "kata_template.py", "sandbox_options.py"} <= places
    assert [lists for lists in found.values() if any(names != list(HYPERVISORS) for names in lists)] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_documents_its_defaults(role: pathlib.Path) -> None:
    options = read(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert {name: option.get("default") for name, option in options.items()} == read(role / "defaults/main.yml")
    readme = (role / "README.md").read_text(encoding="utf-8")
    assert all(name.startswith(f"{role.name}_") for name in options)
    assert readme.startswith(f"# {role.name}\n")
    assert [name for name in options if f"`{name}`" not in readme] == []
