# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A seed's files, and the disk that holds them."""

from __future__ import annotations

import dataclasses
import os
import stat

import pytest
import yaml

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.iso9660 import image
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_options import make_device
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.seed import (
    Seed,
    device_of_seed,
    is_current,
    network_config_of,
    plan_seed,
    remove_seed,
    seed_digest,
    seed_files,
    seed_path,
    write_seed,
)
from tests.support.killing import KILLED, run_killed

FULL = Seed(
    "web-1", "web-1.example.org", ("ssh-ed25519 AAAA a",), "#!/bin/sh\n", "#cloud-config\n", "version: 1\n", "{}"
)


@pytest.fixture
def layout(tmp_path):
    layout = SandboxLayout("web-1", str(tmp_path / "state"), str(tmp_path / "run"))
    os.makedirs(layout.state_dir, 0o700)
    return layout


def test_name_and_keys_are_meta_data_whatever_the_user_data_is() -> None:
    files = seed_files(FULL)
    about = yaml.safe_load(files.pop("meta-data"))
    assert about.pop("instance-id") == f"web-1-{seed_digest(FULL)[:16]}"
    assert about == {"local-hostname": "web-1.example.org", "public-keys": ["ssh-ed25519 AAAA a"]}
    lines = files.pop("kata-guest").decode().splitlines()
    assert lines[1:] == ["hostname web-1.example.org", "key ssh-ed25519 AAAA a"]
    assert files == {"user-data": b"#!/bin/sh\n", "vendor-data": b"#cloud-config\n", "network-config": b"version: 1\n"}


def test_an_empty_seed_has_the_two_files_that_cloud_init_asks_for() -> None:
    files = seed_files(Seed("web-1"))
    assert set(files) == {"meta-data", "user-data", "kata-guest"}
    assert files["user-data"] == b""
    assert set(yaml.safe_load(files["meta-data"])) == {"instance-id"}


def test_the_instance_is_another_one_after_every_change_that_the_guest_can_see() -> None:
    others = [
        dataclasses.replace(FULL, **change)
        for change in (
            {"instance_id": "web-2"},
            {"hostname": ""},
            {"ssh_keys": ()},
            {"user_data": ""},
            {"vendor_data": ""},
            {"network_config": ""},
        )
    ]
    assert len({seed_digest(seed) for seed in [FULL, *others]}) == 1 + len(others)
    # The user's own network configuration takes the place of the other one, which the guest does not get.
    assert seed_digest(FULL) == seed_digest(dataclasses.replace(FULL, network=""))
    own = dataclasses.replace(FULL, network_config="", network="version: 1\n")
    assert seed_files(own) == seed_files(FULL)


def test_network_configuration_of_a_fixed_address_and_of_dhcp() -> None:
    fixed = network_config_of(
        "52:54:00:AB:CD:EF",
        ["10.64.0.5/24", "fd00::5/64"],
        ["10.64.0.1", "fd00::1"],
        ["10.64.0.1"],
        ["default.internal"],
    )
    assert yaml.safe_load(fixed) == {
        "version": 2,
        "ethernets": {
            "eth0": {
                "match": {"macaddress": "52:54:00:ab:cd:ef"},
                "set-name": "eth0",
                "addresses": ["10.64.0.5/24", "fd00::5/64"],
                "routes": [{"to": "0.0.0.0/0", "via": "10.64.0.1"}, {"to": "::/0", "via": "fd00::1"}],
                "nameservers": {"addresses": ["10.64.0.1"], "search": ["default.internal"]},
            }
        },
    }
    interface = yaml.safe_load(network_config_of("52:54:00:ab:cd:ef"))["ethernets"]["eth0"]
    assert interface == {"match": {"macaddress": "52:54:00:ab:cd:ef"}, "set-name": "eth0", "dhcp4": True}


def guest_lines(**seed) -> list[str]:
    """What the script of the collection's own images reads, without the instance."""
    return seed_files(Seed("web-1", **seed))["kata-guest"].decode().splitlines()[1:]


def test_the_script_of_our_own_images_gets_the_same() -> None:
    fixed = network_config_of(
        "52:54:00:AB:CD:EF",
        ["10.64.0.5/24", "fd00::5/64"],
        ["10.64.0.1", "fd00::1"],
        ["10.64.0.1"],
        ["default.internal"],
    )
    assert guest_lines(hostname="web-1", network=fixed) == [
        "hostname web-1",
        "interface 52:54:00:ab:cd:ef",
        "address 10.64.0.5/24",
        "address fd00::5/64",
        "gateway 10.64.0.1",
        "gateway fd00::1",
        "nameserver 10.64.0.1",
        "search default.internal",
    ]
    assert guest_lines(network=network_config_of("52:54:00:ab:cd:ef")) == ["interface 52:54:00:ab:cd:ef", "dhcp"]
    own = '{"network": {"version": 2, "ethernets": {"eth1": {"dhcp4": true, "gateway4": "10.0.0.1"}}}}'
    assert guest_lines(network_config=own, network=fixed) == ["interface eth1", "gateway 10.0.0.1", "dhcp"]


@pytest.mark.parametrize(
    "text",
    [
        "version: 2\nethernets: {}\n",
        "[]",
        "2",
        '{"version": 1, "config": []}',
        '{"version": 2, "ethernets": []}',
        '{"version": 2, "ethernets": {"eth0; reboot": null}}',
        '{"network": null}',
    ],
)
def test_a_network_configuration_that_the_script_cannot_use_is_left_to_cloud_init(text) -> None:
    assert guest_lines(network_config=text) == []


def test_no_value_of_a_network_configuration_becomes_another_line() -> None:
    text = '{"version": 2, "ethernets": {"eth0": {"addresses": ["10.0.0.5/24\\nkey ssh-rsa AAAA", "$(reboot)", 5]}}}'
    assert guest_lines(network_config=text) == ["interface eth0", "address 5"]
    text = '{"version": 2, "ethernets": {"eth0": {}, "eth1\\nx": {"addresses": ["10.0.0.5/24"]}}}'
    assert guest_lines(network_config=text) == ["interface eth0"]


@pytest.mark.parametrize("umask", [0, 0o777])
def test_the_file_is_written_once_and_its_owner_s_alone(layout, umask) -> None:
    assert plan_seed(layout, FULL)
    before = os.umask(umask)
    try:
        path = write_seed(layout, FULL)
    finally:
        os.umask(before)
    assert path == seed_path(layout)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with open(path, "rb") as stream:
        assert stream.read() == image("cidata", seed_files(FULL))
    assert not plan_seed(layout, FULL)
    assert plan_seed(layout, dataclasses.replace(FULL, hostname="other"))
    os.chmod(path, 0o644)
    assert not is_current(layout, FULL)


def test_a_killed_task_s_draft_and_a_link_are_no_obstacle(layout, tmp_path) -> None:
    draft = os.path.join(layout.state_dir, ".seed.iso.new")
    with open(draft, "wb") as stream:
        stream.write(b"cut off")
    victim = tmp_path / "victim"
    victim.write_bytes(image("cidata", seed_files(FULL)))
    victim.chmod(0o600)
    os.symlink(victim, seed_path(layout))
    assert not is_current(layout, FULL)
    write_seed(layout, Seed("web-1"))
    assert victim.read_bytes() == image("cidata", seed_files(FULL))
    assert os.listdir(layout.state_dir) == ["seed.iso"]
    assert is_current(layout, Seed("web-1"))
    assert remove_seed(layout)
    assert os.listdir(layout.state_dir) == []
    assert not remove_seed(layout)


def test_a_task_that_is_killed_anywhere_leaves_the_old_seed_or_the_new_one(layout, tmp_path) -> None:
    new = dataclasses.replace(FULL, hostname="other")
    for number in range(1, 20):
        write_seed(layout, FULL)
        killed = run_killed(tmp_path, number, lambda: write_seed(layout, new)) == KILLED
        assert is_current(layout, FULL) or is_current(layout, new)
        write_seed(layout, new)
        assert os.listdir(layout.state_dir) == ["seed.iso"]
        killed_removing = run_killed(tmp_path, number, lambda: remove_seed(layout)) == KILLED
        remove_seed(layout)
        assert os.listdir(layout.state_dir) == []
        if not killed and not killed_removing:
            break
    assert 2 < number < 19


def test_a_directory_that_is_missing_is_named(tmp_path) -> None:
    layout = SandboxLayout("web-1", str(tmp_path / "state"), str(tmp_path / "run"))
    assert plan_seed(layout, FULL)
    with pytest.raises(HostError, match="the seed could not be written"):
        write_seed(layout, FULL)
    assert not remove_seed(layout)


def test_the_guest_gets_it_as_a_read_only_disk() -> None:
    device = device_of_seed("/state/seed.iso")
    record = make_device({**device, "index": 0})
    assert (device["id"], record.host_file, record.driver) == ("cidata", ("/state/seed.iso", False), "virtio-blk")
