# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No value can become another option, another property or another device, nor another word for the guest's kernel.

Each value is either refused, or gives a command line of the same shape as a harmless one, read back as QEMU and Linux read it.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.arguments import (
    LITERAL,
    MODERN,
    TRANSITIONAL,
    Dialect,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.command_line import VmPlan, command_line
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.kinds import device_for
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.objects import (
    Descriptors,
    Slot,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import machine_named
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.preparation import _check_words
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_options import check_devices, make_device
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import Param

BOOT = {"kernel_path": "/k", "initrd_path": "/i", "num_vcpus": 1, "memory_size": 128, "entropy_source": "/dev/urandom"}

nasty = st.text(min_size=1, max_size=20) | st.lists(
    st.sampled_from(
        [
            ",",
            ",,",
            "=",
            " ",
            "\n",
            "\t",
            "'",
            '"',
            "\\",
            "-",
            "-device",
            "{",
            "}",
            ":",
            "%",
            "$x",
            "é",
            "à",
            "\xa0",
            "\u2028",
            "\x00",
            "a",
            "id=x",
        ]
    ),
    min_size=1,
    max_size=8,
).map("".join)
dialects = st.sampled_from([MODERN, TRANSITIONAL])


def argv(config: HypervisorConfig, dialect: Dialect, devices: list[dict[str, Any]] | None = None) -> list[str]:
    """The command line of a VM, refused where the driver refuses it."""
    config.check_consistent()
    _check_words(config)
    objects = []
    for number, device in enumerate(check_devices(devices or [])):
        descriptors = Descriptors(["30"]) if device["type"] == "net" else None
        made = device_for(make_device(device), HypervisorConfig(block_device_driver="virtio-blk"))
        objects += made.objects(Slot("pci", "pci-bridge-0", str(number + 1)), descriptors)
    plan = VmPlan(
        "web", "uuid", config, machine_named("q35"), "tcg", "/run/web/pid", "/run/web/console.log", [], objects=objects
    )
    return command_line(plan, dialect)


def read_back(words: list[str]) -> list[Any]:
    """The options as QEMU reads them: each with the names of its properties, and the words of the kernel's command line."""
    options: list[Any] = []
    position = 0
    while position < len(words):
        name = words[position]
        assert re.fullmatch("-[A-Za-z-]+", name), name
        position += 1
        if name in ("-no-user-config", "-nodefaults", "-no-reboot", "-S"):
            options.append(name)
            continue
        value = words[position]
        position += 1
        if name == "-append":
            # The kernel splits at bytes outside of double quotes (lib/cmdline.c), and takes 0xa0 for a blank (lib/ctype.c).
            options.append((name, len(re.findall(rb'(?:"[^"]*"?|[^"\t\n\v\f\r \xa0])+', value.encode()))))
        elif name[1:] in LITERAL:
            options.append(name)
        elif value.startswith("{"):
            options.append((name, shape(json.loads(value))))
        else:
            properties = value.replace(",,", "\0").split(",")
            options.append(
                (
                    name,
                    [entry.partition("=")[0] for entry in properties[1:]],
                    properties[0].partition("=")[0] if "=" in properties[0] else "",
                )
            )
    return options


def shape(value: Any) -> Any:
    """A JSON value without its texts: which keys it has."""
    return {key: shape(entry) for key, entry in value.items()} if isinstance(value, dict) else type(value).__name__


PATHS = ["kernel_path", "initrd_path", "firmware_path", "entropy_source", "file_backed_mem_root_dir"]


@pytest.mark.parametrize("field", PATHS)
@settings(max_examples=80)
@given(text=nasty, dialect=dialects, absolute=st.booleans())
def test_a_path_stays_one_value(field: str, text: str, dialect: Dialect, absolute: bool) -> None:
    harmless = read_back(argv(HypervisorConfig(**{**BOOT, field: "/harmless"}), dialect))
    try:
        words = argv(HypervisorConfig(**{**BOOT, field: ("/" if absolute else "") + text}), dialect)
    except ConfigError:
        return
    assert read_back(words) == harmless


@settings(max_examples=80)
@given(text=nasty, dialect=dialects)
def test_an_images_path_stays_one_value(text: str, dialect: Dialect) -> None:
    def with_image(path: str) -> list[Any]:
        return read_back(argv(HypervisorConfig(**{**BOOT, "initrd_path": "", "image_path": path}), dialect))

    try:
        given_image = with_image("/" + text)
    except ConfigError:
        return
    assert given_image == with_image("/harmless")


@pytest.mark.parametrize("field", ["cpu_model", "machine_accelerators"])
@settings(max_examples=100)
@given(text=nasty, dialect=dialects)
def test_a_list_of_words_adds_no_option(field: str, text: str, dialect: Dialect) -> None:
    harmless = read_back(argv(HypervisorConfig(**{**BOOT, field: "a"}), dialect))
    try:
        words = argv(HypervisorConfig(**{**BOOT, field: text}), dialect)
    except ConfigError:
        return
    names = [option if isinstance(option, str) else option[0] for option in read_back(words)]
    assert names == [option if isinstance(option, str) else option[0] for option in harmless]
    assert re.fullmatch(r"[A-Za-z0-9_.,=+-]+", text)


@settings(max_examples=200)
@given(words=st.lists(st.tuples(nasty, nasty | st.just("")), min_size=1, max_size=3), dialect=dialects)
@example(words=[('" ', '"')], dialect=MODERN)
@example(words=[('"', ""), ("0", "")], dialect=MODERN)
def test_a_kernel_parameter_stays_one_word(words: list[tuple[str, str]], dialect: Dialect) -> None:
    harmless = HypervisorConfig(**BOOT, kernel_params=[Param("a", "b") for _word in words])
    try:
        line = argv(HypervisorConfig(**BOOT, kernel_params=[Param(*word) for word in words]), dialect)
    except ConfigError:
        return
    assert read_back(line) == read_back(argv(harmless, dialect))


#: A device of each kind that takes text, and its texts.
DEVICES: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"id": "d", "type": "block", "file": "/d", "serial": "s", "cache": "none"},
        ["id", "file", "serial", "format", "driver", "cache"],
    ),
    (
        {"id": "n", "type": "net", "kind": "tap", "mac": "02:00:00:00:00:01", "tap_name": "t", "bridge": "b"},
        ["id", "mac", "tap_name", "bridge"],
    ),
    ({"id": "f", "type": "fs", "tag": "t", "path": "/p"}, ["id", "tag", "path"]),
    ({"id": "s", "type": "serial", "path": "/p", "name": "n"}, ["id", "path", "name"]),
    ({"id": "v", "type": "vfio", "address": "0000:01:00.0"}, ["id", "address"]),
    ({"id": "m", "type": "vfio", "path": "/sys/m"}, ["id", "path"]),
    ({"id": "u", "type": "vhost_user", "path": "/u", "model": "vhost-user-fs-pci", "tag": "t"}, ["id", "path", "tag"]),
    (
        {"id": "w", "type": "vhost_user", "path": "/u", "model": "virtio-net-pci", "mac": "02:00:00:00:00:01"},
        ["mac", "model"],
    ),
]
CASES = [(device, name) for device, names in DEVICES for name in names]


@pytest.mark.parametrize(
    ("device", "name"), CASES, ids=[f"{device['type']}-{device['id']}-{name}" for device, name in CASES]
)
@settings(max_examples=40)
@given(text=nasty, dialect=dialects, prefix=st.sampled_from(["", "/", "a"]))
def test_a_devices_text_stays_one_value(
    device: dict[str, Any], name: str, text: str, dialect: Dialect, prefix: str
) -> None:
    harmless = read_back(argv(HypervisorConfig(**BOOT), dialect, [device]))
    try:
        words = argv(HypervisorConfig(**BOOT), dialect, [{**device, name: prefix + text}])
    except HypervisorError:
        return
    assert read_back(words) == harmless


@given(text=nasty)
def test_a_harmless_value_is_what_qemu_reads(text: str) -> None:
    """The other direction: what is not refused arrives as it was given."""
    try:
        words = argv(HypervisorConfig(**{**BOOT, "entropy_source": "/" + text}), TRANSITIONAL)
    except ConfigError:
        return
    (value,) = (word for word in words if word.startswith("rng-random"))
    parts = [part.replace("\0", ",") for part in value.replace(",,", "\0").split(",")]
    assert f"filename=/{text}" in parts
