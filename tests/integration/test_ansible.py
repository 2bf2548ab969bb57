# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ad hoc commands from the checkout."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.ansible_programs import ansible
from tests.support.checkout import ROOT
from tests.support.qemu_lab import QemuLab


def from_checkout(module: str, options: dict[str, Any], *words: str, code: int = 0) -> dict[str, Any]:
    """The result of an ad hoc command in the checkout."""
    config = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    arguments = ["-a", json.dumps(options)] if options else []
    output = ansible("ansible", "localhost", "-m", module, *arguments, *words, code=code, **config)
    result: dict[str, Any] = json.loads(output[output.index("=> ") + 3 :])
    return result


@pytest.mark.parametrize("prefix", ["", "kata.hypervisor."])
def test_ad_hoc_by_short_and_by_full_name(lab: QemuLab, prefix: str) -> None:
    where = {"id": "web", "state_dir": str(lab.root / "state"), "run_dir": str(lab.root / "run")}
    boot = {
        "kernel_path": str(lab.assets.kernel),
        "initrd_path": str(lab.assets.initrd),
        "memory_mb": 128,
        "accelerator": "tcg",
    }
    lab.ids.add("web")
    module = f"{prefix}kata_sandbox"
    foretold = from_checkout(module, {**where, **boot, "state": "started"}, "--check")
    assert foretold["changed"] is True and not (lab.root / "state").exists()
    made = from_checkout(module, {**where, **boot, "state": "started"})
    assert made["changed"] is True and made["sandbox"]["state"] == "started" and made["actions"] == foretold["actions"]
    assert from_checkout(module, {**where, "state": "started"})["changed"] is False
    assert from_checkout(module, {**where, "state": "paused"})["actions"] == ["pause"]
    told = from_checkout(f"{prefix}kata_sandbox_info", {"state_dir": where["state_dir"], "run_dir": where["run_dir"]})
    assert [(one["id"], one["state"]) for one in told["sandboxes"]] == [("web", "paused")]
    refused = from_checkout(module, {**where, "machine_type": "pc"}, code=2)
    assert refused["kind"] == "DisruptionError" and "machine_type" in refused["msg"] and "web" in refused["msg"]
    assert from_checkout(module, {**where, "state": "absent", "stop_timeout": 0})["changed"] is True


def test_the_host_tells_what_it_can_do() -> None:
    facts = from_checkout("kata_host_info", {})
    told = json.dumps(facts)
    assert facts["changed"] is False
    for word in ("accelerator", "memory", "huge_pages", "vhost", "qemu"):
        assert word in told
