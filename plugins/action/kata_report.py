# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report on the sandboxes of a fleet: everything happens on the controller."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import tempfile
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.kata.hypervisor.plugins.filter.fleet_sandboxes import fleet_sandboxes
from ansible_collections.kata.hypervisor.plugins.filter.query import query
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import printable
from ansible_collections.kata.hypervisor.plugins.plugin_utils.fleet_report import (
    age,
    as_json,
    as_metrics,
    as_page,
    fleet_report,
)
from ansible_collections.kata.hypervisor.plugins.plugin_utils.sandbox_columns import table_that_fits

PAGE = pathlib.Path(__file__).resolve().parents[2] / "playbooks" / "files" / "report.html"
OPTIONS: dict[str, dict[str, Any]] = {
    "results": {"type": "str", "default": "kata_status"},
    "table": {"type": "bool", "default": False},
    "query": {"type": "str", "default": ""},
    "page": {"type": "path"},
    "json": {"type": "path"},
    "metrics": {"type": "path"},
}


class ActionModule(ActionBase):
    """Makes the report of all hosts of the play, once."""

    BYPASS_HOST_LOOP = True
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Print the table, and write the files."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, options = self.validate_argument_spec(argument_spec=OPTIONS)
        if options["metrics"] and not options["metrics"].endswith(".prom"):
            wrong = f"metrics must end in .prom, or node_exporter does not read it: {options['metrics']}"
            return {**result, "failed": True, "changed": False, "msg": wrong}
        hostvars, hosts = task_vars["hostvars"], task_vars["ansible_play_hosts_all"]
        now = datetime.datetime.now(datetime.timezone.utc)
        report = fleet_report({host: hostvars[host].get(options["results"]) for host in hosts}, now)
        texts = {
            options["page"]: lambda: as_page(report, PAGE.read_text(encoding="utf-8")),
            options["json"]: lambda: as_json(report),
            options["metrics"]: lambda: as_metrics(report),
        }
        files = {path: text() for path, text in texts.items() if path}
        missing = [path for path in files if not os.path.isdir(os.path.dirname(os.path.abspath(path)))]
        if missing:
            wrong = f"The directory of {missing[0]} does not exist on the controller. Create it first."
            return {**result, "failed": True, "changed": False, "msg": wrong}
        if options["table"]:
            chosen: Any = report["sandboxes"]
            if options["query"]:
                # An expression can name any fact, and the report has some of them.
                found = fleet_sandboxes(hostvars, hosts, options["results"])
                aged = [{**facts, "age": age(str(facts.get("created_at", "")), now)} for facts in found]
                chosen = query(aged, options["query"])
            Display().display(table_of(chosen, report["hosts"]))
        if not self._task.check_mode:
            try:
                for path, text in files.items():
                    write_file(path, text)
            except OSError as problem:
                wrong = f"A file of the report cannot be written on the controller: {problem}"
                return {**result, "failed": True, "changed": False, "msg": wrong}
        return {
            **result,
            "changed": bool(files),
            "problems": report["problems"],
            "hosts": len(report["hosts"]),
            "sandboxes": len(report["sandboxes"]),
            "files": sorted(files),
        }


def table_of(chosen: Any, hosts: list[dict[str, Any]]) -> str:
    """The sandboxes as a table, and the errors of hosts below it; what is not a list of sandboxes as JSON. Hosts answered it, so it is made printable."""
    lines = table_that_fits(chosen, terminal_width())
    if lines is None:
        return printable(json.dumps(chosen, indent=2, ensure_ascii=False))
    silent = [f"{host['name']}: {host['error']}" for host in hosts if not host["answered"]]
    return "\n".join([printable(line, lines=False) for line in [*lines, *(["", *silent] if silent else [])]])


def terminal_width() -> int:
    """Columns of the terminal that the command prints to; 0 where it prints to a file or a pipe."""
    with contextlib.suppress(OSError, ValueError):
        return int(os.environ["COLUMNS"]) if os.environ.get("COLUMNS") else _width_of_command()
    return 0


def _width_of_command() -> int:
    # This is a process of its own; what the user sees is the output of the process above it.
    descriptor = os.open(f"/proc/{os.getppid()}/fd/1", os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.get_terminal_size(descriptor).columns
    finally:
        os.close(descriptor)


def write_file(path: str, text: str) -> None:
    """Replace a file at once: nobody reads a part of it. Its mode is 0644."""
    descriptor, new = tempfile.mkstemp(prefix=".kata-report-", dir=os.path.dirname(os.path.abspath(path)))
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), 0o644)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
