# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `kata_engine` prints, with the copy of the host and the module replaced: Python code comes with its arguments."""

from __future__ import annotations

import base64
import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.support.checkout import ROOT

TEXT = (ROOT / "plugins/modules/kata_engine.py").read_text(encoding="utf-8")
TOKEN = "<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"
#: A copy whose directory is the current one.
COPY = """
import os, sys, types
class EngineCopy:
    def __init__(self, digest): self.digest = digest
    def is_usable(self): return {usable}
    def is_possible(self): return True
    def is_intact(self): return {intact}
    def enter(self):
        sys.path.insert(0, os.getcwd())
        sys.dont_write_bytecode = True
"""
#: In the place of Ansible's own.
BASIC = "_ANSIBLE_ARGS = None\n"


def run(tmp_path: pathlib.Path, module: str, usable: bool = True, intact: bool = True, **more: Any) -> dict[str, Any]:
    """What it prints for a module with this code."""
    directory = tmp_path / "ansible_collections/kata/hypervisor/plugins/modules"
    directory.mkdir(parents=True)
    (directory / "kata_one.py").write_text(module)
    (tmp_path / "ansible/module_utils").mkdir(parents=True)
    (tmp_path / "ansible/module_utils/basic.py").write_text(BASIC)
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the current directory')")
    options = json.dumps({"id": 'a"""b', "text": TOKEN}).encode()
    arguments = {
        "digest": "0" * 64,
        "engine_copy": COPY.format(usable=usable, intact=intact),
        "run": "kata_one",
        "options": base64.b64encode(options).decode(),
        "_ansible_check_mode": True,
        **more,
    }
    # As Ansible does: through a pipe, in the directory of the user.
    done = subprocess.run(
        [sys.executable],
        input=TEXT.replace(TOKEN, json.dumps(arguments)),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert not done.stderr and done.stdout, done
    answer: dict[str, Any] = json.loads(done.stdout)
    assert bool(done.returncode) == bool(answer.get("failed"))
    return answer


def test_the_module_gets_its_options_and_what_ansible_sets(tmp_path: pathlib.Path) -> None:
    module = "from ansible.module_utils import basic\ndef main(): print(basic._ANSIBLE_ARGS.decode())\n"
    assert run(tmp_path, module)["ANSIBLE_MODULE_ARGS"] == {
        "id": 'a"""b',
        "text": TOKEN,
        "_ansible_check_mode": True,
        "_ansible_module_name": "kata.hypervisor.kata_one",
    }


def test_a_host_without_a_copy(tmp_path: pathlib.Path) -> None:
    answer = run(tmp_path, "", usable=False)
    assert answer["engine_missing"] is True and answer["changed"] is False


def test_what_cannot_be_installed_is_reported_once(tmp_path: pathlib.Path) -> None:
    answer = run(tmp_path, "", usable=False, archive=str(tmp_path / "missing.zip"))
    assert answer["engine_missing"] is True and answer["can_install"] is False


@pytest.mark.parametrize("module", ["raise ValueError('no')", "def main(): raise ValueError('no')"])
def test_an_unexpected_error_has_its_traceback(tmp_path: pathlib.Path, module: str) -> None:
    answer = run(tmp_path, module)
    assert answer["failed"] is True and answer["msg"] == "ValueError: no"
    assert "Traceback" in answer["exception"] and "kata_one.py" in answer["exception"]


def test_a_damaged_copy_is_replaced_if_nothing_was_done(tmp_path: pathlib.Path) -> None:
    answer = run(tmp_path, "raise ValueError('no')", intact=False)
    assert answer["engine_missing"] is True and "failed" not in answer


def test_a_damaged_copy_is_reported_if_something_may_have_been_done(tmp_path: pathlib.Path) -> None:
    answer = run(tmp_path, "def main(): raise ValueError('no')", intact=False)
    assert answer["kind"] == "HostError" and "damaged (ValueError: no)" in answer["msg"]


def test_it_is_sent_without_the_files_that_modules_import() -> None:
    """Ansible packs what a module imports by such lines; without them it replaces the arguments in the text."""
    assert TEXT.count(TOKEN) == 1
    assert "\nfrom ansible.module_utils" not in TEXT and "\nfrom ansible_collections" not in TEXT
    options = yaml.safe_load(TEXT.split('DOCUMENTATION = r"""')[1].split('"""')[0])["options"]
    assert set(options) == {"digest", "engine_copy", "run", "options", "archive"}
