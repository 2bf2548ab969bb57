# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a record's file holds, it is a record or a typed error, and neither looking at it nor checking a task against it crashes."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import tempfile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError, StoreError
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout
from ansible_collections.kata.hypervisor.plugins.module_utils.records.record import SandboxRecord
from ansible_collections.kata.hypervisor.plugins.module_utils.records.store import Store
from tests.support.mock_lab import MockLab

FIELDS = [field.name for field in dataclasses.fields(SandboxRecord)]

names = st.sampled_from(
    [*FIELDS, "kernel_path", "vcpus", "template", "id", "type", "power", "process", "pid"]
) | st.text(max_size=5)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["web", "mock", "stopped", ""])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=10
)

#: A good record in which some fields are something else.
nearly = st.dictionaries(st.sampled_from(FIELDS) | names, values, max_size=4).map(
    lambda wrong: {
        **dataclasses.asdict(SandboxRecord("web", "mock", {"kernel_path": "/k", "initrd_path": "/i"})),
        **wrong,
    }
)
contents = (
    st.binary(max_size=200)
    | values.map(lambda value: json.dumps(value).encode())
    | nearly.map(lambda value: json.dumps(value).encode())
)


@settings(max_examples=120)
@given(contents)
def test_a_file_is_a_record_or_a_typed_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        layout = SandboxLayout("web", f"{directory}/state", f"{directory}/run")
        path = pathlib.Path(layout.record_path)
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        try:
            record = Store(layout).load()
        except StoreError as problem:
            assert problem.sandbox == "web" and problem.fix
        else:
            assert isinstance(record, SandboxRecord) and record.id == "web"
            Store(layout).save(record)
            assert Store(layout).load() == record or content.find(b"NaN") >= 0
        assert {entry.name for entry in path.parent.iterdir()} - {"spare"} == {"record.json"}


@settings(max_examples=120)
@given(nearly)
def test_looking_at_it_never_crashes(value: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        lab = MockLab(pathlib.Path(directory))
        path = pathlib.Path(lab.spec().layout().record_path)
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(value))
        for look in (lab.facts, lab.check):
            try:
                look()
            except HypervisorError as problem:
                assert "web" in str(problem)
