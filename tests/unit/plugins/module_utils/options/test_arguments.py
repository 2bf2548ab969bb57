# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a task's options to a wish, and the documentation that must say the same as the declarations."""

from __future__ import annotations

import copy
import dataclasses
import json
import pathlib
import re
import sys
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.doc_fragments import directories, sandbox_options
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import HYPERVISORS, driver_class
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities
from ansible_collections.kata.hypervisor.plugins.module_utils.options import arguments
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import (
    device_argument_spec,
    option_spec,
    parse_device_spec,
    parse_spec,
    sandbox_argument_spec,
    sandbox_item_spec,
    template_argument_spec,
    words,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.declarations import Cost
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds import (
    DEVICE_RANGES,
    DEVICE_SUBOPTIONS,
    KINDS,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.balloon import Balloon
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.base import RateLimit
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.block import BlockDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.entropy import EntropyDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.fs import Volume
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.mmds import MetadataService
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.net import NetworkDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.pmem import PmemDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.serial import SerialPort
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vfio import VfioDevice, VfioType
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vhost_user import VhostUserDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vsock import Vsock
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_options import (
    check_devices,
    make_device,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import Param, split_quoted_words
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import (
    declared_options,
    make_config,
    options_from,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.wait_for import parse_wait_for

needs_tomllib = pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python has no tomllib")

DOCUMENTED = yaml.safe_load(sandbox_options.ModuleDocFragment.DOCUMENTATION)["options"]
DOCUMENTED_ITEM = yaml.safe_load(sandbox_options.ModuleDocFragment.ITEMS)["options"]["sandboxes"]["suboptions"]
DIRECTORIES = yaml.safe_load(directories.ModuleDocFragment.DOCUMENTATION)["options"]


# --- documentation -----------------------------------------------------------------------------------------------------


def described(documented: dict[str, Any]) -> dict[str, Any]:
    """A documented option as an argument spec."""
    spec = {name: value for name, value in documented.items() if name not in ("description", "suboptions")}
    if "suboptions" in documented:
        spec["options"] = {name: described(value) for name, value in documented["suboptions"].items()}
    return spec


def test_the_documentation_says_what_the_argument_spec_says() -> None:
    documented = {name: described(option) for name, option in {**DOCUMENTED, **DIRECTORIES}.items()}
    assert documented == documentable(sandbox_argument_spec(HYPERVISORS))
    items = {name: described(option) for name, option in DOCUMENTED_ITEM.items()}
    assert items == documentable(sandbox_item_spec(HYPERVISORS))


def documentable(spec: dict[str, Any]) -> dict[str, Any]:
    """An argument spec without `no_log`, which documentation does not have."""
    return {
        option: {name: value for name, value in of_option.items() if name != "no_log"}
        for option, of_option in spec.items()
    }


@pytest.mark.parametrize("name", declared_options())
def test_the_documentation_names_the_hypervisors_of_an_option(name: str) -> None:
    """An option that not every hypervisor has says which have it. What a change costs is in docs/capabilities.md."""
    names = {name: driver_class(name).title for name in HYPERVISORS if name != "mock"}
    supported = {names[driver] for driver in names if declared_options()[name].cost_for(driver) is not Cost.UNSUPPORTED}
    text = " ".join(DOCUMENTED[name]["description"])
    in_parentheses = re.search(r" \(((?:QEMU|Firecracker|ACRN)[^()]*)\)\.", text)
    named = set(re.findall("|".join(names.values()), in_parentheses[1])) if in_parentheses else set(names.values())
    assert named == supported


def test_no_option_has_a_default_that_would_change_a_sandbox() -> None:
    assert all("default" not in option_spec(declared) for declared in declared_options().values())


def test_the_documentation_of_one_device() -> None:
    from ansible_collections.kata.hypervisor.plugins.modules import kata_device

    documented = {
        **yaml.safe_load(kata_device.DOCUMENTATION)["options"],
        **yaml.safe_load(sandbox_options.ModuleDocFragment.DEVICE)["options"],
        **yaml.safe_load(sandbox_options.ModuleDocFragment.TIMEOUTS)["options"],
        **DIRECTORIES,
    }
    assert {name: described(option) for name, option in documented.items()} == device_argument_spec()


def test_the_documentation_of_a_template() -> None:
    from ansible_collections.kata.hypervisor.plugins.modules import kata_template

    fragment = sandbox_options.ModuleDocFragment
    parts = (fragment.VM, fragment.WAIT, fragment.TIMEOUTS, fragment.TEMPLATE_DEVICES)
    documented = {
        **{name: option for part in parts for name, option in yaml.safe_load(part)["options"].items()},
        **yaml.safe_load(kata_template.DOCUMENTATION)["options"],
        **DIRECTORIES,
    }
    assert {name: described(option) for name, option in documented.items()} == template_argument_spec(HYPERVISORS)


def test_no_two_options_share_a_name() -> None:
    names = [
        name for name, spec in sandbox_argument_spec(HYPERVISORS).items() for name in (name, *spec.get("aliases", []))
    ]
    assert len(names) == len(set(names))


# --- options -----------------------------------------------------------------------------------------------------------


def test_what_is_not_said_is_not_in_the_wish() -> None:
    spec = parse_spec({**dict.fromkeys(sandbox_argument_spec(HYPERVISORS)), "id": "web"})
    assert (spec.options, spec.devices, spec.state, spec.hypervisor, spec.wait_for) == ({}, None, None, None, None)
    assert (spec.disruption, spec.start_timeout, spec.state_dir) == ("none", 60, "/var/lib/kata-hypervisor")


def test_what_is_said_is() -> None:
    spec = parse_spec(
        {"id": "web", "vcpus": 2, "debug": False, "kernel_params": "a b=c", "image_path": "", "stop_timeout": 0}
    )
    assert spec.options == {"vcpus": 2, "debug": False, "kernel_params": ["a", "b=c"], "image_path": ""}
    assert spec.stop_timeout == 0


@pytest.mark.parametrize(
    ("params", "option"),
    [
        ({"id": "../etc"}, "id"),
        ({"id": ""}, "id"),
        ({"vcpus": 0}, "vcpus"),
        ({"memory_mb": -1}, "memory_mb"),
        ({"bridges": -1}, "bridges"),
        ({"start_timeout": 0}, "start_timeout"),
        ({"lock_timeout": -5}, "lock_timeout"),
        ({"kernel_params": 7}, "kernel_params"),
        ({"kernel_params": ["a b"]}, "kernel_params"),
        ({"kernel_params": [""]}, "kernel_params"),
        ({"kernel_params": {"a": 1}}, "kernel_params"),
        ({"wait_for": "moon"}, "wait_for"),
        ({"devices": [{"id": "x", "type": "block"}]}, "devices"),
    ],
)
def test_what_cannot_be_right_is_refused(params: dict[str, Any], option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_spec({"id": "web", **params})
    assert caught.value.option == option


@given(st.one_of(st.text(), st.lists(st.text())))
def test_kernel_parameters_never_gain_a_word(value: Any) -> None:
    try:
        result = words("kernel_params", value)
    except ConfigError:
        return
    assert all(result)
    if isinstance(value, str):
        assert split_quoted_words(" ".join(result)) == result
    if isinstance(value, list):
        assert result == value


def test_a_comma_does_not_split_a_kernel_parameter() -> None:
    assert words("kernel_params", "console=ttyS0,115200 quiet") == ["console=ttyS0,115200", "quiet"]


def test_options_go_into_a_configuration_and_come_back() -> None:
    options = {"kernel_path": "/k", "machine_type": "q35", "vcpus": 2, "kernel_params": ["quiet", "a=b"], "debug": True}
    config = make_config(options)
    assert (config.kernel_path, config.hypervisor_machine_type, config.num_vcpus) == ("/k", "q35", 2)
    assert config.kernel_params == [Param("quiet"), Param("a", "b")]
    assert options_from(config) == options


# --- a Kata configuration file -----------------------------------------------------------------------------------------


def kata_file(tmp_path: pathlib.Path, text: str = "") -> str:
    for name in ("vmlinuz", "initrd", "image", "qemu"):
        (tmp_path / name).write_text(name)
    path = tmp_path / "configuration.toml"
    path.write_text(f"""\
[hypervisor.qemu]
path = "{tmp_path}/qemu"
kernel = "{tmp_path}/vmlinuz"
initrd = "{tmp_path}/initrd"
machine_type = "q35"
default_vcpus = 1
default_memory = 300
kernel_params = "quiet a=b"
{text}
""")
    return str(path)


@needs_tomllib
def test_a_kata_file_speaks_and_the_task_wins(tmp_path: pathlib.Path) -> None:
    file = kata_file(tmp_path)
    spec = parse_spec({"id": "web", "config_file": file, "memory_mb": 400})
    assert spec.hypervisor == "qemu"
    assert (spec.options["machine_type"], spec.options["vcpus"], spec.options["memory_mb"]) == ("q35", 1, 400)
    assert spec.options["kernel_path"] == f"{tmp_path}/vmlinuz" and spec.options["kernel_params"] == ["quiet", "a=b"]
    assert parse_spec({"id": "web", "config_file": file, "hypervisor": "mock"}).hypervisor == "mock"


@needs_tomllib
def test_a_path_of_the_task_takes_the_place_of_one_that_is_missing(tmp_path: pathlib.Path) -> None:
    file = kata_file(tmp_path)
    (tmp_path / "vmlinuz").unlink()
    with pytest.raises(AssetError, match=r"configuration\.toml.*vmlinuz"):
        parse_spec({"id": "web", "config_file": file})
    other = {"kernel_path": f"{tmp_path}/qemu", "image_path": f"{tmp_path}/image"}
    options = parse_spec({"id": "web", "config_file": file, **other}).options
    assert options["kernel_path"] == other["kernel_path"] and options["image_path"] == other["image_path"]
    assert "initrd_path" not in options


@needs_tomllib
def test_a_sandbox_is_removed_without_its_kata_file() -> None:
    assert parse_spec({"id": "web", "config_file": "/nowhere", "state": "absent"}).options == {}
    with pytest.raises(ConfigError) as caught:
        parse_spec({"id": "web", "config_file": "/nowhere"})
    assert (caught.value.option, caught.value.sandbox) == ("config_file", "web")


def test_an_old_python_says_that_it_cannot_read_a_kata_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    with pytest.raises(ConfigError, match=r"needs Python 3\.11"):
        parse_spec({"id": "web", "config_file": "/any.toml"})


# --- wait_for ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wish"),
    [
        (None, None),
        ("", None),
        ({}, None),
        ("running", {"kind": "running", "argument": "", "timeout": 60}),
        ("console: a: b", {"kind": "console", "argument": "a: b", "timeout": 60}),
        ("console: a=b", {"kind": "console", "argument": "a=b", "timeout": 60}),
        ("console=a: b", {"kind": "console", "argument": "a: b", "timeout": 60}),
        ({"console": "x", "timeout": "2.5"}, {"kind": "console", "argument": "x", "timeout": 2.5}),
        ({"running": True}, {"kind": "running", "argument": True, "timeout": 60}),
        ("ssh", {"kind": "ssh", "argument": "", "timeout": 60}),
        ({"ssh": None, "timeout": 9}, {"kind": "ssh", "argument": "", "timeout": 9}),
        ({"ssh": 2222}, {"kind": "ssh", "argument": 2222, "timeout": 60}),
        ("ssh: 192.0.2.7:22", {"kind": "ssh", "argument": "192.0.2.7:22", "timeout": 60}),
        ({"cloud_init": True}, {"kind": "cloud_init", "argument": "", "timeout": 60}),
        ("address", {"kind": "address", "argument": "", "timeout": 60}),
        ("address: FD00::5", {"kind": "address", "argument": "fd00::5", "timeout": 60}),
    ],
)
def test_wait_for(value: Any, wish: Any) -> None:
    assert parse_wait_for(value, 60) == wish


@pytest.mark.parametrize(
    "value",
    ["console", "console:", "moon", 7, ["running"], {"console": "("}, {"console": 7}, {"console": "a", "running": 1}]
    + [{"running": 1, "timeout": timeout} for timeout in ("soon", 0, -1, 10**6, None)]
    + ["ssh: web-1", {"ssh": False}, {"ssh": 0}, "cloud_init: done", "address: web-1", {"address": ["192.0.2.7"]}]
    + [{"timeout": 5}],
)
def test_wait_for_what_cannot_be(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_wait_for(value)
    assert caught.value.option == "wait_for" and caught.value.fix


# --- devices -----------------------------------------------------------------------------------------------------------

#: One device of each type, as a task lists it, and the record a driver is given.
DEVICES: list[tuple[dict[str, Any], Any]] = [
    (
        {"id": "data0", "type": "block", "file": "/d", "format": "qcow2", "read_only": True, "serial": "abc"},
        BlockDrive("/d", "qcow2", "data0", read_only=True, serial="abc"),
    ),
    (
        {"id": "eth0", "type": "net", "kind": "tap", "mac": "02:00:00:AA:00:01", "tap_name": "t0", "mtu": 1400},
        NetworkDevice("tap", "eth0", "02:00:00:aa:00:01", "t0", mtu=1400, id="eth0"),
    ),
    ({"id": "share", "type": "fs", "tag": "home", "path": "/home"}, Volume("home", "/home", "share")),
    ({"id": "port", "type": "serial", "path": "/s"}, SerialPort("port", "char-port", "/s", "port")),
    ({"id": "vs", "type": "vsock", "cid": 3}, Vsock(3, id="vs")),
    ({"id": "gpu", "type": "vfio", "address": "0000:01:00.0"}, VfioDevice("gpu", VfioType.NORMAL, bdf="0000:01:00.0")),
    ({"id": "mdev", "type": "vfio", "path": "/sys/m"}, VfioDevice("mdev", VfioType.MEDIATED, sysfs_dev="/sys/m")),
    (
        {"id": "vu", "type": "vhost_user", "path": "/s", "model": "virtio-net-pci", "queues": 2},
        VhostUserDevice("vu", "/s", "virtio-net-pci", queues=2),
    ),
    ({"id": "mem", "type": "balloon", "size_mb": 8, "deflate_on_oom": True}, Balloon("mem", 8, True, stats_seconds=5)),
    (
        {"id": "pm", "type": "pmem", "file": "/p", "read_only": True, "rate_limit": {"ops": 1}},
        PmemDrive("/p", "pm", True, RateLimit(ops=1)),
    ),
    ({"id": "rng", "type": "entropy"}, EntropyDevice("rng")),
    (
        {"id": "md", "type": "mmds", "interfaces": ["eth0"], "contents": {"a": {"b": [1]}}, "address": "169.254.1.2"},
        MetadataService("md", ["eth0"], "V2", "169.254.1.2", contents={"a": {"b": [1]}}),
    ),
]


@pytest.mark.parametrize(("listed", "record"), DEVICES, ids=[listed["id"] for listed, _record in DEVICES])
def test_a_listed_device_becomes_a_record(listed: dict[str, Any], record: Any) -> None:
    everything = dict.fromkeys(DEVICE_SUBOPTIONS)
    (checked,) = check_devices([{**everything, **listed}], alone=True)
    assert None not in checked.values()
    assert make_device(checked) == record


def test_every_type_and_suboption_is_known() -> None:
    assert DEVICE_SUBOPTIONS["type"]["choices"] == list(KINDS)
    used = {name for kind in KINDS.values() for name in kind.suboptions}
    assert used == set(DEVICE_SUBOPTIONS) - {"id", "type"}
    assert {listed["type"] for listed, _record in DEVICES} == set(KINDS)


def test_kinds_that_share_a_name_share_what_is_declared_of_it() -> None:
    for kind in KINDS.values():
        for name, suboption in kind.suboptions.items():
            assert suboption.argument_spec() == DEVICE_SUBOPTIONS[name]
            assert suboption.range == DEVICE_RANGES.get(name)
            assert suboption.default is None or not suboption.required


def test_the_capabilities_that_kinds_name_exist() -> None:
    known = {field.name for field in dataclasses.fields(Capabilities)}
    for kind in KINDS.values():
        assert {kind.plug, kind.unplug, *kind.updatable().values()} - {""} <= known


def test_suboptions_are_only_made_for_a_task_with_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return DEVICE_SUBOPTIONS

    monkeypatch.setattr(arguments, "device_suboptions", make)
    validator = ArgumentSpecValidator(sandbox_argument_spec(HYPERVISORS))
    assert validator.validate({"id": "web", "memory_mb": 128}).error_messages == []
    assert made == []
    wrong = validator.validate({"id": "web", "devices": [{"id": "d", "type": "block", "colour": "red"}]})
    assert "colour" in wrong.error_messages[0] and made == [1]


def test_suboptions_on_demand_are_a_dictionary() -> None:
    def spec() -> Any:
        return sandbox_argument_spec(HYPERVISORS)["devices"]["options"]

    assert spec() == DEVICE_SUBOPTIONS
    assert dict(spec()) == {**spec()} == DEVICE_SUBOPTIONS
    assert list(spec()) == list(spec().keys()) == list(DEVICE_SUBOPTIONS)
    assert list(spec().items()) == list(DEVICE_SUBOPTIONS.items())
    assert list(spec().values()) == list(DEVICE_SUBOPTIONS.values())
    assert "file" in spec() and len(spec()) == len(DEVICE_SUBOPTIONS)
    assert spec()["file"] == spec().get("file") == {"type": "path"}
    assert json.loads(json.dumps(dict(spec()))) == DEVICE_SUBOPTIONS
    assert copy.deepcopy(spec()) == DEVICE_SUBOPTIONS
    # As voluptuous does, by which ansible-test looks at argument specs.
    empty = type(spec())()
    empty["file"] = {}
    assert empty == {"file": {}} and type(spec())() == {}


BLOCK = {"id": "d", "type": "block", "file": "/d"}


@pytest.mark.parametrize(
    ("devices", "words_of_it"),
    [
        ([{**BLOCK, "id": "0d"}], "needs an id"),
        ([{**BLOCK, "id": "a,b"}], "needs an id"),
        ([{**BLOCK, "id": "x" * 33}], "needs an id"),
        ([BLOCK, BLOCK], "two devices have the id d"),
        ([{**BLOCK, "type": "magic"}], "must have one of the types"),
        ([{**BLOCK, "file": "relative"}], "must be an absolute path"),
        ([{**BLOCK, "file": "/a\nb"}], "line break"),
        ([{**BLOCK, "mac": "02:00:00:00:00:01"}], "has no suboption mac"),
        ([{**BLOCK, "serial": "x" * 21}], "at most 20 bytes"),
        (
            [{"id": "n", "type": "net", "kind": "tap", "mac": "01:00:00:00:00:01"}],
            "must be the MAC address of one interface",
        ),
        ([{"id": "n", "type": "net", "kind": "tap", "queues": 0}], "queues"),
        ([{"id": "v", "type": "vsock", "cid": 2}], "cid"),
        ([{"id": "v", "type": "vfio"}], "either address or path"),
        ([{"id": "v", "type": "vfio", "address": "x", "path": "/y"}], "either address or path"),
    ],
)
def test_a_device_that_cannot_be_is_refused(devices: list[dict[str, Any]], words_of_it: str) -> None:
    with pytest.raises(ConfigError, match=words_of_it) as caught:
        check_devices(devices, "web")
    assert (caught.value.option, caught.value.sandbox) == ("devices", "web")


# --- values that YAML makes of carelessness ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"vcpus": True}, "vcpus", "must be an integer"),
        ({"memory_mb": True}, "memory_mb", "must be an integer"),
        ({"memory_mb": 0}, "memory_mb", "must be at least 1"),
        ({"bridges": -1}, "bridges", "must be at least 0"),
        ({"max_memory_mb": 10**30}, "max_memory_mb", "must be at most"),
        ({"jailer_uid": 2**32 - 1}, "jailer_uid", "must be at most"),
        ({"autostart": "yes"}, "autostart", "must be true or false"),
        ({"machine_type": 7}, "machine_type", "must be text"),
        ({"kernel_path": "k"}, "kernel_path", "must be an absolute path"),
        ({"kernel_path": "/k\n"}, "kernel_path", "must not have a line break"),
        ({"shared_fs": "nfs"}, "shared_fs", "must be one of"),
        ({"kernel_params": ["nokaslr", True]}, "kernel_params", "must be text or a number"),
        ({"kernel_params": {"a": 1}}, "kernel_params", "a string or a list"),
        ({"kernel_params": ["a b"]}, "kernel_params", "blanks outside of double quotes"),
        ({"state_dir": "/a\nExecStart=/x"}, "state_dir", "must not have a line break"),
        ({"run_dir": "/run/\x1b[2J"}, "run_dir", "must not have a line break"),
        ({"state_dir": "state"}, "state_dir", "must be an absolute path"),
        ({"start_timeout": float("nan")}, "start_timeout", "must be a number of seconds"),
        ({"start_timeout": float("inf")}, "start_timeout", "must be a number of seconds"),
        ({"stop_timeout": 1e300}, "stop_timeout", "must be a number of seconds"),
        ({"lock_timeout": True}, "lock_timeout", "must be a number of seconds"),
        ({"save_timeout": 0}, "save_timeout", "from 1 to"),
        ({"wait_for": {"console": "x", "timeout": True}}, "wait_for", "timeout"),
        ({"wait_for": {"console": "x", "timeout": float("nan")}}, "wait_for", "timeout"),
        ({"id": True}, "id", "must be a valid id"),
    ],
)
def test_a_value_of_another_type_or_out_of_range_is_refused(options: dict[str, Any], option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_spec({"id": "web", **options})
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("device", "name", "message"),
    [
        ({"type": "net", "kind": "tap", "queues": True}, "queues", "from 1 to 256"),
        ({"type": "net", "kind": "tap", "mtu": -5}, "mtu", "from 68 to 65535"),
        ({"type": "net", "kind": "tap", "mtu": 10**30}, "mtu", "from 68 to 65535"),
        ({"type": "net", "kind": "tap", "vhost": 1}, "vhost", "true or false"),
        ({"type": "net", "kind": "bridge"}, "kind", "must be one of tap, user, macvtap"),
        ({"type": "block", "file": 7}, "file", "must be text"),
        ({"type": "block", "file": "/a\0b"}, "file", "must not have a line break"),
        ({"type": "vsock", "cid": 2**32 - 1}, "cid", "from 3 to 4294967294"),
        ({"type": "balloon", "size_mb": 1.5}, "size_mb", "an integer"),
        ({"type": "entropy", "rate_limit": [1]}, "rate_limit", "a dictionary"),
        ({"type": "entropy", "rate_limit": {"ops": True}}, "rate_limit", "each a number"),
        ({"type": "mmds", "interfaces": "eth0"}, "interfaces", "a list of names"),
        ({"type": "mmds", "interfaces": []}, "interfaces", "at least one"),
        ({"type": "net", "kind": "tap", "mtu": 65522}, "mtu", "at most 65521"),
        ({"type": "fs", "tag": "x" * 37, "path": "/p"}, "tag", "at most 36 bytes"),
        ({"type": "mmds", "interfaces": ["e"], "contents": {"a": float("inf")}}, "contents", "finite"),
        ({"type": "mmds", "interfaces": ["e"], "address": "169.254.1.\u0661"}, "address", "link-local"),
    ],
)
def test_a_suboption_of_another_type_or_out_of_range_is_refused(
    device: dict[str, Any], name: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_spec({"id": "web", "devices": [{"id": "d", **device}]})
    assert caught.value.option == "devices"
    with pytest.raises(ConfigError, match=message) as caught:
        parse_device_spec({"sandbox": "web", "id": "d", **device})
    assert caught.value.option == name and caught.value.sandbox == "web"


def test_every_number_of_a_device_has_a_range() -> None:
    assert set(DEVICE_RANGES) == {name for name, spec in DEVICE_SUBOPTIONS.items() if spec["type"] == "int"}


def test_one_file_has_one_spelling() -> None:
    spec = parse_spec(
        {
            "id": 7,
            "kernel_path": "/a//k",
            "initrd_path": "/a/./i/",
            "image_path": "/no/../image",
            "state_dir": "/var//lib/kata/",
            "devices": [
                {"id": "s", "type": "fs", "tag": "t", "path": "/srv/share/"},
                {"id": "d", "type": "block", "file": "//d"},
            ],
        }
    )
    assert spec.id == "7" and spec.state_dir == "/var/lib/kata"
    assert spec.options == {"kernel_path": "/a/k", "initrd_path": "/a/i", "image_path": "/image"}
    assert spec.devices is not None and [spec.devices[0]["path"], spec.devices[1]["file"]] == ["/srv/share", "/d"]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('dyndbg="file a.c  +p" quiet', ['dyndbg="file a.c  +p"', "quiet"]),
        ('  a="1  2"b="3 4"  c ', ['a="1  2"b="3 4"', "c"]),
        ('a="', ['a="']),
        ("", []),
    ],
)
def test_quoted_kernel_parameters_stay_as_they_are(text: str, result: list[str]) -> None:
    assert words("kernel_params", text) == result
    assert " ".join(words("kernel_params", result)) == " ".join(result)


@given(st.text(alphabet='ab "\t=', max_size=20))
def test_words_of_a_text_are_words_of_a_list(text: str) -> None:
    found = words("kernel_params", text)
    assert words("kernel_params", found) == found
