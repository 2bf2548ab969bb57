# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No line that the schema of the vectors allows crashes an adapter: it answers, or raises one of the collection's errors.

Inputs are made from the recorded ones: other operations, kinds and values of the schema, members that are missing or null, now and then another type.
"""

from __future__ import annotations

import copy
import json
import os
import random
import sys
import time
from typing import Any, Iterator

import pytest

from tests.support import checkout

if sys.version_info < (3, 11):
    pytest.skip("the runner reads TOML", allow_module_level=True)

import run as runner
from adapters import qmp_sequences

from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.common import vmm_process
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import resize, vmm
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices import hotplug

DATA = checkout.ROOT / "tests/vectors/data"
FILES = sorted(path.stem for path in DATA.glob("*.jsonl"))
#: How many inputs each file's adapter gets; those that run processes or write many files get fewer. KATA_VECTOR_INPUTS multiplies them.
USUAL = 250
FOREIGN = ("qemu_cmdline_arm64", "qemu_cmdline_ppc64le", "qemu_cmdline_s390x")
SLOW = {
    "acrn_lifecycle": 60,
    "factory": 25,
    "mock": 100,
    "qmp_sequences": 150,
    "toml_config": 150,
    **dict.fromkeys(FOREIGN, 80),
}
TIMES = int(os.environ.get("KATA_VECTOR_INPUTS", "1"))

#: Operations of the interface, and those of single files; a file's own come from its lines.
OPERATIONS = [
    *(
        "createSandbox",
        "startSandbox",
        "stopSandbox",
        "pauseSandbox",
        "saveSandbox",
        "resumeSandbox",
        "addDevice",
        "hotplugAddDevice",
    ),
    *(
        "hotplugRemoveDevice",
        "resizeMemory",
        "resizeVCPUs",
        "getSandboxConsole",
        "disconnect",
        "capabilities",
        "hypervisorConfig",
        "getThreadIDs",
    ),
    *(
        "cleanup",
        "pid",
        "fromGrpc",
        "toGrpc",
        "check",
        "save",
        "load",
        "wait",
        "hotplug",
        "no such operation",
        "",
        "__init__",
        "step",
    ),
]
KINDS = [
    *(
        "volume",
        "socket",
        "vsock",
        "vsock_hybrid",
        "block",
        "vfio",
        "vhost_user",
        "vhost_user_pointer_as_passed_by_sandbox_AppendDevice",
    ),
    *(
        "veth",
        "bridged_macvlan",
        "ipvlan",
        "macvtap",
        "tap",
        "physical",
        "cpu",
        "memory",
        "fs",
        "serial_port",
        "image",
        "no such kind",
        "",
    ),
]
TEXTS = [
    *("", "a", "a,b", ",", "=", "a b", "a\nb", "\0", "é" * 60, "x" * 300, "/", "../..", "{D}/x"),
    *("{DIR}/x", "\udcff", "\ud800", "10", "-1", "virtio-fs", "null"),
]
NUMBERS = [0, 1, -1, 2, 7, 8, 9, 31, 32, 255, 256, 65536, 2**31, 2**32 - 1, 2**32, 2**63, 2**64, -(2**63), 10**40]
REPLIES = [
    *(
        '{"return": null}',
        '{"return": "x"}',
        '{"return": []}',
        '{"return": [{}]}',
        '{"return": [{"CPU": "x", "thread_id": []}]}',
        '{"return": 7}',
    ),
    *(
        '{"return": [{"CPU": null, "thread_id": 10}]}',
        '{"return": [{"data": null}]}',
        '{"return": [{"type": 5}]}',
        '{"return": {"status": 5}}',
    ),
    *(
        '{"error": {"desc": 5}}',
        '{"error": {}}',
        '{"error": null}',
        "no JSON",
        "[]",
        '"x"',
        "[" * 5000,
        '{"event": "DEVICE_DELETED"}',
        "\ud800",
        "1" * 5000,
    ),
]


class FastClock:
    """A clock that sleeps without waiting."""

    def __init__(self) -> None:
        self.slept = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += max(seconds, 0.001) * 100


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMUs that never answer are not waited for."""
    for module, name in (
        (vmm, "QMP_SECONDS"),
        (vmm, "ENDING_SECONDS"),
        (vmm, "STEP_SECONDS"),
        (vmm_process, "ENDING_SECONDS"),
        (hotplug, "RELEASE_SECONDS"),
        (resize, "GUEST_SECONDS"),
        (qmp_sequences, "SAVE_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.1)
    monkeypatch.setattr(qmp_sequences, "LONGEST_START", 1)
    monkeypatch.setattr(qmp_sequences, "time", FastClock())


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a value: its container and its key or position."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def _other(key: Any, value: Any, random_: random.Random) -> Any:
    """Another value for a place."""
    if random_.random() < 0.08:
        return random_.choice([None, True, 7, 1.5, "x", [], {}, [None], {"": None}, [[]]])
    if random_.random() < 0.12:
        return None
    if key == "op":
        return random_.choice(OPERATIONS)
    if key == "kind":
        return random_.choice(KINDS)
    if key == "scripted_replies":
        commands = (
            "query-cpus",
            "query-status",
            "query-migrate",
            "query-memory-devices",
            "query-hotpluggable-cpus",
            "device_add",
            "qmp_capabilities",
        )
        return {command: ["*" + random_.choice(REPLIES)] for command in random_.sample(commands, 3)}
    if key in ("device_type", "value"):
        return random_.choice([*range(-1, 16), "x", {"size_mb": "x"}, {}, None, 1.5, True])
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return random_.choice([*NUMBERS, random_.randrange(300)])
    if isinstance(value, str):
        return random_.choice([*TEXTS, value + ",", value[: len(value) // 2], value * 2])
    if isinstance(value, list):
        return random_.choice([[], value * 2, value[::-1], value[:1]])
    return {}


def _mutated(value: dict[str, Any], others: list[dict[str, Any]], random_: random.Random) -> dict[str, Any]:
    made = copy.deepcopy(value)
    for _change in range(random_.randrange(1, 5)):
        places = list(_places(made))
        if not places:
            break
        container, key = random_.choice(places)
        if isinstance(container, dict) and random_.random() < 0.2:
            del container[key]
        elif isinstance(container, dict) and random_.random() < 0.2:
            # A member of another line of the same file.
            container.update(
                copy.deepcopy({name: one for name, one in random_.choice(others).items() if random_.random() < 0.4})
            )
        else:
            container[key] = _other(key, container[key], random_)
    return made


def _inputs(name: str, seed: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Lines with other inputs, each beside the line that it was made from."""
    lines, random_ = _lines(name), random.Random(f"{name} {seed}")
    others = [line["input"] for line in lines]
    for _number in range(SLOW.get(name, USUAL) * TIMES):
        line = random_.choice(lines)
        yield line, {**line, "input": _mutated(line["input"], others, random_)}


@pytest.mark.parametrize("name", FILES)
def test_no_input_crashes_an_adapter(name: str) -> None:
    adapter = runner.find_adapter(DATA / f"{name}.jsonl")
    assert adapter is not None
    for _line, made in _inputs(name, "2019"):
        found = runner.check_line(adapter, made)
        wrong = [difference for difference in found if difference.startswith((runner.CRASH, "not ported"))]
        assert not wrong, f"{json.dumps(made['input'])}\n{wrong[0]}"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("qemu_cmdline")])
def test_no_recorded_vm_crashes_the_comparison(name: str) -> None:
    """A request that is not the recorded one, compared with the recorded VM; and a recorded command line that is none."""
    adapter, random_ = runner.find_adapter(DATA / f"{name}.jsonl"), random.Random(name)
    assert adapter is not None
    compared = 0
    for line, made in _inputs(name, "today"):
        output = copy.deepcopy(line["output"])
        if "argv" not in (output or {}):
            continue
        for _change in range(3):
            output["argv"][random_.randrange(len(output["argv"]))] = random_.choice([*TEXTS, "a,b=c,,", "id=,=", "{"])
        found = runner.check_line(adapter, {**made, "output": output})
        assert not any(difference.startswith(runner.CRASH) for difference in found), (
            f"{json.dumps(made['input'])}\n{found[0]}"
        )
        compared += bool(found)
    assert compared > 20
