# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""virtiofsd's command line: always in its sandbox and with its filter of system calls (CVE-2026-47243), and no value of a task or a
configuration file becomes an option of it (CVE-2026-44210)."""

from __future__ import annotations

import pathlib
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices import virtiofsd
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_spec
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kata_toml import load_kata_toml

RUST, OLD = "virtiofsd 1.13.2", "virtiofsd version 7.2.19 (Debian 1:7.2+dfsg-7+deb12u16)"
#: What turns its confinement off, or lets the guest reach more than the shared directory.
HARMFUL = (
    "none",
    "chroot",
    "--seccomp",
    "--no-sandbox",
    "modcaps",
    "--modcaps",
    "--announce-submounts",
    "--inode-file-handles",
    "xattr",
    "writeback",
)


@pytest.mark.parametrize("cache", ["", "none", "auto", "always"])
def test_the_whole_command_line(cache: str) -> None:
    """In Rust, the filter of system calls kills unless `--seccomp` says otherwise; in C it cannot be turned off."""
    rust = {"none": "never", "": "auto"}.get(cache, cache)
    words = ["/v", "--socket-path", "/s", "--shared-dir", "/d", "--cache", rust, "--sandbox", "namespace"]
    assert virtiofsd.arguments("/v", RUST, "/s", "/d", cache, False) == words
    assert virtiofsd.arguments("/v", RUST, "/s", "/d", cache, True) == [*words, "--readonly"]
    old = [
        "/v",
        "--socket-path=/s",
        "-f",
        "-o",
        "source=/d",
        "-o",
        f"cache={cache or 'auto'}",
        "-o",
        "sandbox=namespace",
    ]
    assert virtiofsd.arguments("/v", OLD, "/s", "/d", cache, False) == old


@settings(max_examples=300)
@given(
    st.text(min_size=1, max_size=20)
    | st.sampled_from([",sandbox=none", " --sandbox none", "\n--seccomp=none", "=x", "--", ",modcaps=+sys_admin"])
)
def test_a_path_stays_one_value(text: str) -> None:
    directory = f"/{text}"
    for version in (RUST, OLD):
        harmless = virtiofsd.arguments("/v", version, "/s", "/d", "auto", False)
        try:
            words = virtiofsd.arguments("/v", version, "/s", directory, "auto", False)
        except Unsupported:
            assert version == OLD and "," in directory  # It takes a comma for the end of a value.
            continue
        assert [
            directory if word == "/d" else f"source={directory}" if word == "source=/d" else word for word in harmless
        ] == words


@pytest.mark.parametrize("word", HARMFUL)
def test_no_option_carries_words_of_its_own(word: str) -> None:
    for option in ("virtio_fs_extra_args", "virtiofsd_args"):
        spec = parse_spec({"id": "web", "state": "started", option: [word]})
        assert option not in spec.options
    if word != "none":  # As a cache, it means that none is kept.
        with pytest.raises(ConfigError):
            parse_spec({"id": "web", "state": "started", "virtio_fs_cache": word})
    with pytest.raises(ConfigError):
        parse_spec({"id": "web", "state": "started", "virtio_fs_cache": f"auto,sandbox={word}"})


@pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python cannot read TOML")
def test_extra_arguments_of_a_configuration_file_go_nowhere(tmp_path: pathlib.Path) -> None:
    for name in ("kernel", "initrd", "daemon", "qemu"):
        (tmp_path / name).write_bytes(b"x")
    lines = [
        f'{key} = "{tmp_path / name}"'
        for key, name in (("path", "qemu"), ("kernel", "kernel"), ("initrd", "initrd"), ("virtio_fs_daemon", "daemon"))
    ]
    path = tmp_path / "configuration.toml"
    extra = 'virtio_fs_extra_args = ["--sandbox=none", "--seccomp=none", "-o", "sandbox=none"]'
    enabled = 'enable_annotations = ["virtio_fs_extra_args", "path"]'
    path.write_text("\n".join(["[hypervisor.qemu]", *lines, 'shared_fs = "virtio-fs"', extra, enabled, ""]))
    given = load_kata_toml(str(path), replaced={}).task_options()
    assert given["virtio_fs_daemon"] == str(tmp_path / "daemon") and not [
        value for value in given.values() if "sandbox" in str(value)
    ]
    path.write_text(
        "\n".join(["[hypervisor.qemu]", *lines, 'shared_fs = "virtio-fs"', 'virtio_fs_cache = "auto,sandbox=none"', ""])
    )
    spec = parse_spec(
        {
            "id": "web",
            "state": "started",
            "config_file": str(path),
            "state_dir": str(tmp_path / "s"),
            "run_dir": str(tmp_path / "r"),
        }
    )
    for check_mode in (True, False):
        with pytest.raises(ConfigError, match="must be one of none, auto, always"):
            converge(spec, check_mode)
