# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules load after what they need, whatever their files are called and however they are packed."""

from __future__ import annotations

import gzip
import lzma
import pathlib
import random

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.elf import needs_of
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.kernel_modules import ModuleTree, modinfo
from tests.support.elf_modules import elf_module


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> ModuleTree:
    """virtio_pci needs virtio and virtio_ring, virtio needs virtio_ring; crc32c is built in."""
    drivers = tmp_path / "kernel/drivers"
    drivers.mkdir(parents=True)
    (drivers / "virtio_ring.ko").write_bytes(elf_module(license="GPL", depends=""))
    (drivers / "virtio.ko.gz").write_bytes(gzip.compress(elf_module(depends="virtio_ring")))
    (drivers / "virtio-pci.ko.xz").write_bytes(lzma.compress(elf_module(depends="virtio,virtio_ring,crc32c")))
    (drivers / "wants_more.ko").write_bytes(elf_module(depends="", softdep="pre: virtio-pci nowhere post: absent"))
    (drivers / "broken.ko").write_bytes(elf_module(depends="not_there"))
    (drivers / "loop_a.ko").write_bytes(elf_module(depends="", softdep="pre: loop_b"))
    (drivers / "loop_b.ko").write_bytes(elf_module(depends="", softdep="pre: loop_a"))
    (tmp_path / "modules.builtin").write_text("kernel/crypto/crc32c.ko\n")
    return ModuleTree(str(tmp_path))


def test_dependencies_come_first(tree: ModuleTree) -> None:
    assert tree.load_order(["virtio_pci"]) == ["virtio_ring", "virtio", "virtio_pci"]


def test_a_module_is_loaded_once(tree: ModuleTree) -> None:
    assert tree.load_order(["virtio", "virtio-pci", "virtio_pci"]) == ["virtio_ring", "virtio", "virtio_pci"]


def test_built_in_ones_are_there_and_not_loaded(tree: ModuleTree) -> None:
    assert tree.has("crc32c")
    assert tree.load_order(["crc32c"]) == []


def test_soft_dependencies_are_taken_where_they_exist(tree: ModuleTree) -> None:
    assert tree.load_order(["wants_more"]) == ["virtio_ring", "virtio", "virtio_pci", "wants_more"]


def test_soft_dependencies_may_go_in_a_circle(tree: ModuleTree) -> None:
    assert sorted(tree.load_order(["loop_a"])) == ["loop_a", "loop_b"]


def test_a_missing_module_is_named(tree: ModuleTree) -> None:
    with pytest.raises(AssetError, match="no module nowhere"):
        tree.load_order(["nowhere"])
    assert not tree.has("nowhere")


def test_a_missing_dependency_is_named_with_who_needs_it(tree: ModuleTree) -> None:
    with pytest.raises(AssetError, match="no module not_there, which broken needs"):
        tree.load_order(["broken"])


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_kind_of_elf_file_is_read(bits: int, order: str) -> None:
    assert modinfo(elf_module(bits, order, depends="a,b", license="GPL")) == {"depends": "a,b", "license": "GPL"}


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"not a module at all", elf_module()[:100]])
def test_what_is_no_module_is_refused(content: bytes) -> None:
    with pytest.raises(AssetError, match="not a kernel module"):
        modinfo(content, "odd.ko")


def test_a_truncated_archive_is_refused(tmp_path: pathlib.Path) -> None:
    for suffix, content in ((".gz", gzip.compress(elf_module())), (".xz", lzma.compress(elf_module()))):
        (tmp_path / f"half.ko{suffix}").write_bytes(content[: len(content) // 2])
        with pytest.raises(AssetError):
            ModuleTree(str(tmp_path)).load_order(["half"])
        (tmp_path / f"half.ko{suffix}").unlink()


def test_a_directory_without_modules_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(AssetError, match="holds no kernel modules"):
        ModuleTree(str(tmp_path))
    with pytest.raises(AssetError, match="no such directory"):
        ModuleTree(str(tmp_path / "nowhere"))


def test_whatever_is_in_a_module_the_error_is_typed(tmp_path: pathlib.Path) -> None:
    chance = random.Random(6)
    path, outcomes = tmp_path / "x.ko", set()
    seeds = [elf_module(bits, order, depends="a,b", softdep="pre: c") for bits in (32, 64) for order in "<>"]
    for number in range(4000):
        data = bytearray(seeds[number % 4])
        for _change in range(chance.randint(1, 6)):
            data[chance.randrange(4, len(data))] = chance.choice([chance.randrange(256), 0xFF])
        image = bytes(data[: chance.randint(4, len(data))] if number % 5 == 0 else data)
        path.write_bytes(image)
        for read in (lambda image=image: modinfo(image), lambda: needs_of(str(path))):
            try:
                read()
                outcomes.add("taken")
            except AssetError:
                outcomes.add("refused")
    assert outcomes == {"taken", "refused"}


def test_modules_that_depend_on_each_other_without_end(tmp_path: pathlib.Path) -> None:
    for number in range(3000):
        (tmp_path / f"m{number}.ko").write_bytes(elf_module(depends=f"m{number + 1}"))
    (tmp_path / "m3000.ko").write_bytes(elf_module())
    with pytest.raises(AssetError, match="too many steps"):
        ModuleTree(str(tmp_path)).load_order(["m0"])
    (tmp_path / "bomb.ko.gz").write_bytes(gzip.compress(bytes(300 << 20)))
    with pytest.raises(AssetError, match="must have at most 256 MiB"):
        ModuleTree(str(tmp_path)).read("bomb")


def test_a_list_of_builtin_modules_that_is_no_text(tmp_path: pathlib.Path) -> None:
    (tmp_path / "modules.builtin").write_bytes(b"\xff\xfe")
    with pytest.raises(AssetError, match="cannot be read"):
        ModuleTree(str(tmp_path))
