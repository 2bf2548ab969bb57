# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report of a fleet, from what `kata_sandbox_info` returned on each host: as a value, and as metrics of Prometheus. Pure."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any, Iterable, Mapping

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import printable
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api.dialect import parse_version
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.vulnerabilities import (
    known_vulnerabilities,
)

#: The facts of a sandbox that the report has, and their types.
FACTS: dict[str, type] = {
    "id": str,
    "hypervisor": str,
    "state": str,
    "reason": str,
    "vcpus": int,
    "memory_mb": int,
    "pid": int,
    "accelerator": str,
    "hypervisor_version": str,
    "created_at": str,
    "changed_at": str,
}
#: States that need attention.
BAD_STATES = ("crashed", "failed", "incomplete", "unresponsive")
VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){1,2}")
#: The longest text of one fact, characters.
MOST_TEXT = 500
#: What comes before the facts in a file for Prometheus: type and meaning, by name of the metric.
METRICS = {
    "kata_report_time_seconds": ("gauge", "When the report was made, in seconds since 1970."),
    "kata_host_up": ("gauge", "Whether the host answered."),
    "kata_host_sandboxes": ("gauge", "How many sandboxes the host has in this state."),
    "kata_sandbox_state": ("gauge", "1, with the sandbox's state as a label."),
    "kata_sandbox_vcpus": ("gauge", "vCPUs of the sandbox, 0 without a VM."),
    "kata_sandbox_memory_bytes": ("gauge", "Memory of the sandbox, 0 without a VM."),
    "kata_sandbox_problems": ("gauge", "How many problems the report has about the sandbox."),
}


def fleet_report(answers: Mapping[str, Any], now: datetime.datetime) -> dict[str, Any]:
    """Hosts, sandboxes and problems.

    :param answers: the registered result of `kata_sandbox_info` by host; anything else for a host that gave none
    """
    hosts, sandboxes = [], []
    for name in sorted(answers):
        answer = answers[name] if isinstance(answers[name], Mapping) else {}
        found = answer.get("sandboxes")
        answered = isinstance(found, (list, tuple)) and not answer.get("failed") and not answer.get("unreachable")
        own = (
            [_sandbox(name, facts, now) for facts in found if isinstance(facts, Mapping)] if answered and found else []
        )
        error = "" if answered else _text(answer.get("msg") or "it gave no answer")
        hosts.append({"name": _text(name), "answered": answered, "error": error, "states": _counts(own)})
        sandboxes += own
    return {
        "generated_at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "hosts": hosts,
        "sandboxes": sandboxes,
        "problems": [
            *({"host": host["name"], "id": "", "what": host["error"]} for host in hosts if not host["answered"]),
            *({"host": one["host"], "id": one["id"], "what": what} for one in sandboxes for what in one["problems"]),
        ],
    }


def _sandbox(host: str, facts: Mapping[str, Any], now: datetime.datetime) -> dict[str, Any]:
    found = {name: _fact(facts.get(name), kind) for name, kind in FACTS.items()}
    network = facts.get("network") if isinstance(facts.get("network"), Mapping) else {}
    labels = facts.get("labels") if isinstance(facts.get("labels"), Mapping) else {}
    ports = network.get("ports") if isinstance(network.get("ports"), (list, tuple)) else []
    return {
        "host": _text(host),
        **found,
        "network": {
            "name": _text(network.get("network", "")),
            "address": _text(network.get("address", "")),
            "ports": [_text(port) for port in ports],
        },
        "labels": {_text(name): _text(value) for name, value in labels.items()},
        "age": age(str(found["created_at"]), now),
        "problems": problems_of(found, facts),
    }


def problems_of(sandbox: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """What needs attention, the worst first.

    :param sandbox: the checked facts
    :param facts: all that the host answered
    """
    found = []
    if sandbox["state"] in BAD_STATES:
        found.append(f"{sandbox['state']}: {sandbox['reason']}" if sandbox["reason"] else str(sandbox["state"]))
    if sandbox["hypervisor"] == "firecracker" and VERSION.fullmatch(sandbox["hypervisor_version"]):
        version = sandbox["hypervisor_version"]
        options = facts.get("options") if isinstance(facts.get("options"), Mapping) else {}
        jailed, pci = options.get("jailer") != "none", bool(options.get("enable_pci"))
        found += [
            f"Firecracker {version} is vulnerable: {known.name}, {known.what}"
            for known in known_vulnerabilities(parse_version(version), jailed, pci)
        ]
    leftovers = facts.get("leftovers")
    if isinstance(leftovers, (list, tuple)) and leftovers:
        found.append(f"an ended VM left {len(leftovers)} things on the host")
    return found


def age(since: str, now: datetime.datetime) -> str:
    """How long ago a time was, in the largest unit that is at least 1: 45s, 12m, 5h, 3d. Empty if it is not a time in UTC."""
    try:
        began = datetime.datetime.strptime(since, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return ""
    seconds = max(0, int((now.replace(tzinfo=None) - began).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _fact(value: Any, kind: type) -> Any:
    if kind is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else 0
    return _text(value) if isinstance(value, str) else ""


def _text(value: Any) -> str:
    """A text of a host, safe to print and short."""
    return printable(str(value), lines=False)[:MOST_TEXT]


def _counts(sandboxes: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in sandboxes:
        counts[one["state"]] = counts.get(one["state"], 0) + 1
    return dict(sorted(counts.items()))


def as_json(report: Mapping[str, Any]) -> str:
    """The report as a file of JSON."""
    return json.dumps(report, indent=2, sort_keys=True) + "\n"


def as_page(report: Mapping[str, Any], page: str) -> str:
    """The report as a page of HTML.

    :param page: the page, with `"@REPORT@"` in the place of the data
    """
    # Inside of a script, nothing but this could end it.
    data = (
        json.dumps(report, separators=(",", ":"))
        .replace("<", "\\u003c")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )
    return page.replace('"@REPORT@"', data, 1)


def as_metrics(report: Mapping[str, Any]) -> str:
    """The report as a file for node_exporter's textfile collector (Prometheus, exposition formats)."""
    time = datetime.datetime.strptime(report["generated_at"], "%Y-%m-%dT%H:%M:%SZ").replace(
        tzinfo=datetime.timezone.utc
    )
    samples: dict[str, list[str]] = {name: [] for name in METRICS}
    samples["kata_report_time_seconds"].append(_sample("kata_report_time_seconds", {}, int(time.timestamp())))

    def add(metric: str, labels: Mapping[str, str], value: int) -> None:
        samples[metric].append(_sample(metric, labels, value))

    for host in report["hosts"]:
        add("kata_host_up", {"host": host["name"]}, int(host["answered"]))
        for state, count in host["states"].items():
            add("kata_host_sandboxes", {"host": host["name"], "state": state}, count)
    for one in report["sandboxes"]:
        which = {"host": one["host"], "id": one["id"]}
        add("kata_sandbox_state", {**which, "hypervisor": one["hypervisor"], "state": one["state"]}, 1)
        add("kata_sandbox_vcpus", which, one["vcpus"])
        add("kata_sandbox_memory_bytes", which, one["memory_mb"] << 20)
        add("kata_sandbox_problems", which, len(one["problems"]))
    lines = []
    for metric, (kind, meaning) in METRICS.items():
        if samples[metric]:
            lines += [f"# HELP {metric} {meaning}", f"# TYPE {metric} {kind}", *samples[metric]]
    return "\n".join(lines) + "\n"


def _sample(metric: str, labels: Mapping[str, str], value: int) -> str:
    pairs = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
    return f"{metric}{{{pairs}}} {value}" if pairs else f"{metric} {value}"


def _escaped(text: str) -> str:
    return re.sub(r'[\\"\n]', lambda found: {"\n": "\\n"}.get(found[0], f"\\{found[0]}"), text)
