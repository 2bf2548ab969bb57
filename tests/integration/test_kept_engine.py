# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks run from the copy of the collection that the host keeps, and mean the same with it and without."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.delivery.engine_copy import digest_of
from ansible_collections.kata.hypervisor.plugins.plugin_utils import engine as engine_module
from ansible_collections.kata.hypervisor.plugins.plugin_utils.engine import engine_files
from tests.support.ansible_programs import ansible
from tests.support.checkout import ROOT

ROUTED = sorted(
    path.stem for path in (ROOT / "plugins/action").glob("*.py") if "EngineAction" in path.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module", name="checkout")
def fixture_checkout(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Another checkout, which differs in a line: no test that runs beside these uses its engine."""
    path = tmp_path_factory.mktemp("checkout")
    for name in ("plugins", "meta", ".collections"):
        shutil.copytree(ROOT / name, path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("ansible.cfg", "galaxy.yml"):
        shutil.copy(ROOT / name, path)
    with open(path / "plugins/module_utils/errors.py", "a", encoding="utf-8") as stream:
        stream.write(f"# {path}\n")
    return path


@pytest.fixture
def engine(tmp_path: pathlib.Path, checkout: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """The checkout's copy, which is not there yet."""
    monkeypatch.setattr(engine_module, "PLUGINS", str(checkout / "plugins"))
    path = pathlib.Path("/var/cache/kata-hypervisor/engine") / digest_of(engine_files())
    remove_copy(path, tmp_path)
    yield path
    remove_copy(path, tmp_path)


def remove_copy(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    if path.exists():
        path.rename(tmp_path / "aside")
        shutil.rmtree(tmp_path / "aside")


def play(
    checkout: pathlib.Path, tmp_path: pathlib.Path, tasks: list[dict[str, Any]], *words: str, **keywords: Any
) -> list[dict[str, Any]]:
    """The results of tasks, in order."""
    told = tmp_path / "results.json"
    results = ", ".join(f"result{number}" for number in range(len(tasks)))
    tasks = [{**task, "register": f"result{number}"} for number, task in enumerate(tasks)]
    tasks.append(
        {"ansible.builtin.copy": {"content": f"{{{{ [{results}] | to_json }}}}", "dest": str(told), "mode": "0600"}}
    )
    playbook = tmp_path / "play.yml"
    playbook.write_text(
        json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks, **keywords}])
    )
    ansible("ansible-playbook", str(playbook), *words, directory=checkout, **config(checkout))
    found: list[dict[str, Any]] = json.loads(told.read_text(encoding="utf-8"))
    return found


def config(checkout: pathlib.Path) -> dict[str, str]:
    """The configuration of a checkout."""
    return {"ANSIBLE_CONFIG": str(checkout / "ansible.cfg")}


def ran(
    checkout: pathlib.Path, where: dict[str, str], *words: str, keep: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """The answer of an ad hoc kata_sandbox_info, and the modules that were sent for it."""
    variables = [] if keep else ["-e", "kata_hypervisor_keep_engine=false"]
    output = ansible(
        "ansible",
        "localhost",
        "-vvv",
        "-m",
        "kata.hypervisor.kata_sandbox_info",
        "-a",
        json.dumps(where),
        *words,
        *variables,
        directory=checkout,
        **config(checkout),
    )
    sent = re.findall(r"^(?:Using module file|<.*> Using module file) \S*/(\w+)\.py", output, re.MULTILINE)
    answer = json.loads(output[output.index("=> ") + 3 : output.rindex("}") + 1])
    return answer, sent


@pytest.fixture
def where(tmp_path: pathlib.Path) -> dict[str, str]:
    return {"state_dir": str(tmp_path / "state"), "run_dir": str(tmp_path / "run")}


def test_the_first_task_brings_it_and_the_next_finds_it(
    engine: pathlib.Path, checkout: pathlib.Path, where: dict[str, str]
) -> None:
    first, sent = ran(checkout, where)
    assert first["sandboxes"] == [] and sent == ["kata_engine", "kata_engine"] and engine.is_dir()
    second, sent = ran(checkout, where)
    assert second["sandboxes"] == [] and sent == ["kata_engine"]
    assert second["invocation"]["module_args"]["state_dir"] == where["state_dir"], (
        "the task's own options, not the engine's"
    )


@pytest.mark.parametrize(
    "name", ["modules/kata_sandbox_info.py", "module_utils/records/store.py", "modules/__pycache__", "contents.sha256"]
)
def test_a_damaged_copy_is_replaced(
    engine: pathlib.Path, checkout: pathlib.Path, where: dict[str, str], name: str
) -> None:
    """As a power loss leaves it: files without content. It is noticed when a module fails, or at the next boot."""
    ran(checkout, where)
    damaged = [engine / name] if name.endswith((".py", "256")) else list((engine / name).glob("kata_sandbox_info.*"))
    for path in damaged:
        path.write_bytes(b"")
    answer, _sent = ran(checkout, where)
    assert answer["sandboxes"] == []
    pathlib.Path("/run/kata-hypervisor", f"engine-{engine.name[:16]}").unlink(missing_ok=True)
    answer, sent = ran(checkout, where)
    assert answer["sandboxes"] == [] and sent[0] == "kata_engine"
    assert all(path.stat().st_size > 0 for path in damaged)


def test_the_short_name_from_a_checkout_runs_from_it_too(
    engine: pathlib.Path, checkout: pathlib.Path, where: dict[str, str]
) -> None:
    ansible(
        "ansible",
        "localhost",
        "-m",
        "kata_sandbox_info",
        "-a",
        json.dumps(where),
        directory=checkout,
        **config(checkout),
    )
    assert engine.is_dir()


def test_check_mode_leaves_nothing(engine: pathlib.Path, checkout: pathlib.Path, where: dict[str, str]) -> None:
    answer, sent = ran(checkout, where, "--check")
    assert answer["sandboxes"] == [] and sent == ["kata_engine", "kata_sandbox_info"] and not engine.exists()


def test_a_host_that_keeps_nothing(engine: pathlib.Path, checkout: pathlib.Path, where: dict[str, str]) -> None:
    answer, sent = ran(checkout, where, keep=False)
    assert answer["sandboxes"] == [] and sent == ["kata_sandbox_info"] and not engine.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to others")
def test_a_copy_that_others_may_write_to_is_not_run(
    engine: pathlib.Path, checkout: pathlib.Path, where: dict[str, str]
) -> None:
    ran(checkout, where)
    engine.chmod(0o777)
    try:
        answer, sent = ran(checkout, where)
        assert answer["sandboxes"] == [] and sent[-1] == "kata_sandbox_info"
    finally:
        shutil.rmtree(engine)


def test_defaults_of_the_group_errors_and_async_are_as_without(
    checkout: pathlib.Path, tmp_path: pathlib.Path, where: dict[str, str]
) -> None:
    tasks: list[dict[str, Any]] = [
        {"kata.hypervisor.kata_sandbox": {"id": "web", "state": "absent"}},
        {"kata.hypervisor.kata_sandbox": {"id": "web", "state": "absent"}, "async": 60, "poll": 1},
        {"kata.hypervisor.kata_sandbox": {"id": "we/b", "state": "absent"}, "ignore_errors": True},
        {"kata.hypervisor.kata_sandbox": {"id": "web", "colour": "red"}, "ignore_errors": True},
        # Ansible replaces this in the text of kata_engine.
        {"kata.hypervisor.kata_sandbox": {"id": "<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"}, "ignore_errors": True},
    ]
    group = {"module_defaults": {"group/kata.hypervisor.kata": where}}
    for words in ((), ("-e", "kata_hypervisor_keep_engine=false")):
        plain, later, refused, unknown, replaced = play(checkout, tmp_path, tasks, *words, **group)
        assert plain["sandbox"]["state_dir"] == later["sandbox"]["state_dir"] == f"{where['state_dir']}/sandboxes/web"
        assert refused["kind"] == "ConfigError" and "we/b" in refused["msg"]
        assert unknown["msg"].startswith("kata.hypervisor.kata_sandbox has no option colour.")
        assert replaced["kind"] == "ConfigError" and "'<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>'" in replaced["msg"]


def test_whatever_a_module_needs_is_in_the_copy(tmp_path: pathlib.Path) -> None:
    """Each routed module is imported in a Python that has the copy and Ansible's own modules, and nothing else of ours."""
    for path, content in engine_files().items():
        target = tmp_path / "ansible_collections/kata/hypervisor/plugins" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    assert "kata_sandbox" in ROUTED
    program = "; ".join(f"import ansible_collections.kata.hypervisor.plugins.modules.{name}" for name in ROUTED)
    python = pathlib.Path(ROOT / ".venv/bin/python")
    done = subprocess.run(
        [str(python), "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
