# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An initrd has what was asked for, the same bytes every time, and is replaced in one step or not at all."""

from __future__ import annotations

import gzip
import os
import pathlib

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError, HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import packages
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.archives import Tree
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.initrd import (
    Built,
    ExtraFile,
    build_initrd,
    install_initrd,
    unpack_packages,
)
from tests.support.elf_modules import elf_module


@pytest.fixture
def inputs(tmp_path: pathlib.Path) -> dict[str, str]:
    modules = tmp_path / "modules/kernel"
    modules.mkdir(parents=True)
    (modules / "virtio_ring.ko").write_bytes(elf_module(depends=""))
    (modules / "virtio.ko").write_bytes(elf_module(depends="virtio_ring"))
    init = tmp_path / "init"
    init.write_text("#!/bin/sh\n")
    busybox = tmp_path / "busybox"
    busybox.write_text("#!/bin/sh\nprintf 'sh\\nmount\\n../evil\\nbusybox\\n'\n")
    busybox.chmod(0o755)
    return {"init": str(init), "busybox": str(busybox), "modules_directory": str(tmp_path / "modules")}


def test_the_guest_finds_modules_in_loading_order(inputs: dict[str, str]) -> None:
    built = build_initrd(**inputs, modules=["virtio"], optional_modules=["virtio_mem"])
    assert built.modules == ["virtio_ring", "virtio"]
    assert built.missing == ["virtio_mem"]
    assert b"/lib/modules/virtio_ring.ko\n/lib/modules/virtio.ko\n" in built.content
    # modprobe -a loads them in one process, in the order in which it gets them.
    assert b"virtio_ring.ko:\nvirtio.ko:\n" in built.content


def test_applets_are_links_and_none_leaves_bin(inputs: dict[str, str]) -> None:
    content = build_initrd(**inputs).content
    assert b"bin/mount\0" in content
    assert b"evil" not in content.replace(b"../evil\\n", b"")


def test_the_same_inputs_give_the_same_bytes(inputs: dict[str, str]) -> None:
    first = build_initrd(**inputs, modules=["virtio"], compression="gzip")
    os.utime(inputs["init"], (1, 1))
    second = build_initrd(**inputs, modules=["virtio"], compression="gzip")
    assert first == second
    assert gzip.decompress(first.content) == build_initrd(**inputs, modules=["virtio"]).content


def test_a_missing_module_or_file_is_an_error(inputs: dict[str, str]) -> None:
    with pytest.raises(AssetError, match="no module nowhere"):
        build_initrd(**inputs, modules=["nowhere"])
    with pytest.raises(AssetError, match="cannot be read"):
        build_initrd(**{**inputs, "init": "/nonexistent"})


def test_a_dynamic_busybox_is_refused(inputs: dict[str, str]) -> None:
    pathlib.Path(inputs["busybox"]).write_bytes(b"\x7fELF /lib64/ld-linux-x86-64.so.2\0")
    with pytest.raises(AssetError, match="must be linked statically"):
        build_initrd(**inputs)


@pytest.mark.parametrize(
    "options", [{"dest": "etc/x", "mode": "0644"}, {"dest": "/../x", "mode": "0644"}, {"dest": "/x", "mode": "rw"}]
)
def test_an_odd_extra_file_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        ExtraFile.parse({"src": "/etc/hostname", **options})


def test_it_is_written_once(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "guest.img"
    built = Built(b"content", [], [])
    assert install_initrd(built, str(path), check_mode=True)["changed"]
    assert not path.exists()
    assert install_initrd(built, str(path))["changed"]
    assert path.read_bytes() == b"content"
    assert not install_initrd(built, str(path))["changed"]
    assert os.listdir(tmp_path) == ["guest.img"]


def test_a_refused_write_leaves_the_old_one(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "guest.img"
    path.mkdir()
    with pytest.raises(HostError):
        install_initrd(Built(b"new", [], []), str(path))
    with pytest.raises(HostError):
        install_initrd(Built(b"new", [], []), "/proc/version/guest.img")
    assert os.listdir(tmp_path) == ["guest.img"]


def test_an_init_program_can_be_text(inputs: dict[str, str]) -> None:
    text = pathlib.Path(inputs["init"]).read_text()
    assert build_initrd(**{**inputs, "init": ""}, init_content=text) == build_initrd(**inputs)


def test_the_directory_of_an_initrd_is_created_with_a_fixed_mode(tmp_path: pathlib.Path) -> None:
    old = os.umask(0o077)
    try:
        assert install_initrd(Built(b"x", [], []), str(tmp_path / "a/guest.img"))["changed"]
    finally:
        os.umask(old)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/guest.img")] == [0o755, 0o644]


def test_parts_come_from_packages_that_are_unpacked_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = []

    class Distribution:
        def resolve(self, name: str, follow: str) -> list[packages.Package]:
            return [packages.Package(name, "1")]

        def download(self, wanted: list[packages.Package], directory: str) -> list[str]:
            downloads.append(wanted[0].name)
            return [wanted[0].name]

        def unpack(self, file: str, tree: Tree) -> None:
            path = pathlib.Path(tree.path, "usr/bin", file.partition("-")[0])
            path.parent.mkdir(parents=True)
            path.write_text("program")

    monkeypatch.setattr(packages, "package_manager", Distribution)
    wanted = {"busybox-static": "", "socat": "^lib"}
    predicted = unpack_packages(wanted, str(tmp_path), check_mode=True)
    assert (predicted.actions, downloads) == (["unpack busybox-static 1", "unpack socat 1"], [])
    found = unpack_packages(wanted, str(tmp_path))
    again = unpack_packages(wanted, str(tmp_path))
    assert (downloads, found.actions, again.actions) == (["busybox-static", "socat"], predicted.actions, [])
    assert again.busybox("busybox-static") == str(tmp_path / "busybox-static_1/usr/bin/busybox")
    with pytest.raises(AssetError, match="must contain busybox"):
        again.busybox("socat")
    options = {"src": "usr/bin/socat", "dest": "/bin/socat", "root": "/", "package": "socat", "follow": "^lib"}
    program = again.program(options)
    assert program == (str(tmp_path / "socat_1/usr/bin/socat"), "/bin/socat", str(tmp_path / "socat_1"))
    assert again.program({**options, "package": ""}) == ("usr/bin/socat", "/bin/socat", "/")
