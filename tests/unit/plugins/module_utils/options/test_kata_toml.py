# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kata's configuration.toml."""

from __future__ import annotations

import contextlib
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.options import kata_toml
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kata_toml import LoaderHost, load_kata_toml
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import kernel_params_string

needs_toml = pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python reads no TOML")


@pytest.fixture(name="load")
def _load(tmp_path):
    for name in ("qemu", "kernel", "initrd", "image"):
        (tmp_path / name).write_bytes(b"x" * 100)

    def load(text="", boot="initrd", table="qemu"):
        lines = [f"[hypervisor.{table}]"]
        names = {"path": "qemu", "kernel": "kernel", **({boot: boot} if boot else {})}
        lines += [f'{key} = "{tmp_path / name}"' for key, name in names.items()]
        path = tmp_path / "configuration.toml"
        path.write_text("\n".join([*lines, text]))
        return load_kata_toml(str(path), LoaderHost(4, str(tmp_path / "vhost-vsock")))

    return load


@needs_toml
def test_a_plain_file_gets_the_loaders_defaults(load):
    loaded = load()
    config = loaded.hypervisor_config
    assert (loaded.hypervisor_type, config.num_vcpus, config.default_max_vcpus, config.memory_size) == (
        "qemu",
        1,
        4,
        2048,
    )
    assert (config.mlock, config.shared_fs, config.hypervisor_machine_type) == (True, "virtio-9p", "pc")
    config.check_consistent()


@needs_toml
def test_a_file_gives_a_tasks_options(load, tmp_path):
    options = load(
        'default_vcpus = 2\ndefault_memory = 256\nkernel_params = "a=b c"\nenable_swap = true'
    ).task_options()
    assert options["kernel_path"] == str(tmp_path / "kernel")
    assert (options["vcpus"], options["memory_mb"], options["kernel_params"]) == (2, 256, ["a=b", "c"])
    assert not {"mlock", "image_path", "debug"} & set(options)


@needs_toml
def test_options_that_a_hypervisor_does_not_have_are_left_out(load, tmp_path):
    (tmp_path / "vhost-vsock").touch()
    options = load("default_bridges = 3", table="firecracker").task_options()
    assert options["initrd_path"] == str(tmp_path / "initrd")
    assert not {"bridges", "max_vcpus", "entropy_source"} & set(options)


@needs_toml
def test_the_agents_parameters_stand_between_the_images_and_the_users(load):
    loaded = load(
        'kernel_params = "a=b"\n[agent.kata]\nenable_debug = true\nenable_tracing = true\ntrace_mode = "static"\ntrace_type = "isolated"',
        boot="image",
    )
    assert kernel_params_string(loaded.hypervisor_config.kernel_params) == (
        "systemd.unit=kata-containers.target systemd.mask=systemd-networkd.service systemd.mask=systemd-networkd.socket"
        " agent.log=debug agent.trace=isolated a=b"
    )


@needs_toml
@pytest.mark.parametrize(
    "text",
    [
        'default_vcpus = "two"',
        "default_vcpus = true",
        "default_memory = -1",
        "default_memory = 4294967296",
        "default_memory = 1.5",
        "enable_debug = 1",
        "kernel_params = 5",
        'kernel_params = "=x"',
        'shared_fs = "nfs"',
        'shared_fs = "virtio-fs"',
        "[agent]\nkata = 5",
        '[agent.kata]\nkernel_modules = "a"',
        "[factory]\nvm_cache_number = -1",
        "[hypervisor.firecracker]",
        "not toml",
        'x = "\\q"',
    ],
)
def test_what_is_wrong_is_refused_and_the_file_named(load, text):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert "configuration.toml" in caught.value.message


@needs_toml
def test_a_missing_file_is_named(load):
    with pytest.raises(AssetError, match="/nonexistent/firmware"):
        load('firmware = "/nonexistent/firmware"')


@needs_toml
def test_an_initrd_that_does_not_fit_into_the_memory_is_refused(load, tmp_path):
    with open(tmp_path / "big", "wb") as stream:
        stream.truncate(16 << 20)
    with pytest.raises(ConfigError, match="does not fit"):
        load(f'initrd = "{tmp_path / "big"}"\ndefault_memory = 16', boot="")


@needs_toml
def test_a_file_that_is_not_there_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_kata_toml(str(tmp_path / "none.toml"))


@needs_toml
@given(st.binary(max_size=200))
def test_any_bytes_are_loaded_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    with pytest.raises((ConfigError, AssetError)):
        load_kata_toml(str(path), LoaderHost(1))


def test_an_old_python_is_told_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(kata_toml.sys, "version_info", (3, 9, 2))
    with pytest.raises(ConfigError, match=r"needs Python 3\.11"):
        load_kata_toml(str(tmp_path / "configuration.toml"))


# --- files of later releases, for a task ---------------------------------------------------------------------------------


@pytest.fixture(name="task")
def _task(load, tmp_path):
    """Load a file as a task with these options does."""

    def task(text="", table="qemu", **options):
        with contextlib.suppress(ConfigError, AssetError):
            load(text, table=table)
        return load_kata_toml(str(tmp_path / "configuration.toml"), replaced=options)

    return task


@needs_toml
@pytest.mark.parametrize(
    ("text", "attribute", "value"),
    [
        ('shared_fs = "none"', "shared_fs", ""),
        ('block_device_driver = "virtio-blk-pci"', "block_device_driver", "virtio-blk"),
        ('block_device_driver = "virtio-blk-ccw"', "block_device_driver", "virtio-blk"),
        ('block_device_driver = "virtio-blk-mmio"', "block_device_driver", "virtio-mmio"),
        ('virtio_fs_cache = "never"', "virtio_fs_cache", "none"),
        ("default_vcpus = 1.5", "num_vcpus", 2),
        (
            "default_vcpus = 1.0\nenable_annotations = []\n[hypervisor.qemu.factory]\nenable_template = false",
            "num_vcpus",
            1,
        ),
    ],
)
def test_words_of_later_releases_are_understood(task, text, attribute, value):
    assert getattr(task(text).hypervisor_config, attribute) == value


@needs_toml
def test_a_tasks_value_counts_before_the_files_is_judged(task, load):
    with pytest.raises(ConfigError, match="shared_fs"):
        load('shared_fs = "virtio-fs-nydus"')
    with pytest.raises(ConfigError, match="shared_fs"):
        task('shared_fs = "virtio-fs-nydus"')
    assert task('shared_fs = "virtio-fs-nydus"', shared_fs="virtio-9p").hypervisor_config.shared_fs == "virtio-9p"
    assert task('shared_fs = "none"', shared_fs="virtio-9p").hypervisor_config.shared_fs == "virtio-9p"
    assert task('shared_fs = "virtio-fs"', virtio_fs_daemon="/d").hypervisor_config.virtio_fs_daemon == "/d"
    assert (
        task('block_device_driver = "vfio"', block_device_driver="virtio-blk").hypervisor_config.block_device_driver
        == "virtio-blk"
    )
    assert task('default_memory = "much"', memory_mb=64).hypervisor_config.memory_size == 64
    assert task("enable_debug = 7", debug=True).hypervisor_config.debug is True
    assert task("kernel_params = 7", kernel_params=["quiet"]).hypervisor_config.kernel_params == []
    assert task("machine_type = 1", machine_type="q35").hypervisor_config.hypervisor_machine_type == "q35"


@needs_toml
@pytest.mark.parametrize("table", ["clh", "remote", "dragonball", "stratovirt", "cloud-hypervisor"])
def test_a_file_for_another_hypervisor_is_refused_by_its_name(task, table):
    with pytest.raises(ConfigError, match=f"configures {table}"):
        task(table=table)


@needs_toml
def test_firecracker_needs_no_vsock_of_the_hosts(task):
    assert task(table="firecracker").hypervisor_config.use_vsock


@needs_toml
@pytest.mark.parametrize(
    "data",
    [
        b"a = " + b"[" * 20_000,
        b"a = " + b"[" * 20_000 + b"]" * 20_000,
        b"\xff",
        b"a = 1\na = 2",
        b"#" * (2 << 20),
        b"a = " + b"9" * 6000,
    ],
)
def test_what_is_no_configuration_is_a_typed_error(data, tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(data)
    for replaced in (None, {}):
        with pytest.raises((ConfigError, AssetError)):
            load_kata_toml(str(path), replaced=replaced)


@needs_toml
def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "c.toml")
    with pytest.raises(ConfigError, match="must be a file"):
        load_kata_toml(str(tmp_path / "c.toml"))
