# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of other architectures: Debian's kernel and busybox for them, downloaded with an apt of their own and only unpacked.

The host's own apt and dpkg learn nothing of the other architecture.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess

from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.initrd import build_initrd
from tests.support.checkout import ROOT
from tests.support.guest_assets import cache_directory

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: Debian's name of an architecture, and the package that depends on its newest kernel.
PACKAGES = {
    "aarch64": ("arm64", "linux-image-cloud-arm64"),
    "ppc64le": ("ppc64el", "linux-image-powerpc64le"),
    "s390x": ("s390x", "linux-image-s390x"),
}
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console")
OPTIONAL_MODULES = ("virtio_balloon", "virtio_mem", "virtio_rng", "virtio_scsi", "sd_mod", "virtio_pmem", "evdev")
MINUTES = 10


class NoGuest(Exception):
    """There is no such guest on this host, and the reason."""


class ForeignGuest:
    """A kernel and an initrd of another architecture."""

    def __init__(self, architecture: str) -> None:
        directory = cache_directory() / "foreign" / architecture
        self.kernel = directory / "vmlinuz"
        self.initrd = directory / "initrd.img"
        self.tree = directory / "tree"
        if not self.kernel.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            _unpack(architecture, directory, self.tree)
            self.kernel.symlink_to(next((self.tree / "boot").glob("vmlinu*")))
        (modules,) = (self.tree / "lib/modules").iterdir()
        built = build_initrd(
            init=str(ROOT / "roles/kata_image/files/init"),
            busybox=str(self.tree / "bin/busybox"),
            modules_directory=str(modules),
            modules=MODULES,
            optional_modules=OPTIONAL_MODULES,
        )
        self.initrd.write_bytes(built.content)


def _unpack(architecture: str, directory: pathlib.Path, tree: pathlib.Path) -> None:
    if not shutil.which("apt-get") or not os.path.exists(KEYRING):
        raise NoGuest("this host has no Debian apt to download a foreign kernel with")
    name, kernel = PACKAGES[architecture]
    apt = directory / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "downloads"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb [signed-by={KEYRING}] http://deb.debian.org/debian bookworm main\n")
    (apt / "apt.conf").write_text(
        f'APT::Architecture "{name}";\nAPT::Architectures {{ "{name}"; }};\nAPT::Sandbox::User "root";\nAcquire::Languages "none";\n'
        f'Dir::State::lists "{apt}/lists";\nDir::State::status "{apt}/status";\nDir::Cache "{apt}/cache";\n'
        f'Dir::Etc::SourceList "{apt}/sources.list";\nDir::Etc::SourceParts "/dev/null";\n'
    )

    def run(*words: str) -> str:
        done = subprocess.run(
            words,
            cwd=apt / "downloads",
            env={**os.environ, "APT_CONFIG": str(apt / "apt.conf"), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MINUTES * 60,
            check=False,
        )
        if done.returncode:
            raise NoGuest(f"{' '.join(words)}: {done.stderr.strip()[-300:]}")
        return done.stdout

    run("apt-get", "-q", "update")
    newest = re.search(r"Depends: (linux-image-\S+)", run("apt-cache", "depends", kernel))
    if not newest:
        raise NoGuest(f"{kernel} depends on no kernel")
    run("apt-get", "-q", "download", newest[1], "busybox-static")
    for package in (apt / "downloads").glob("*.deb"):
        run("dpkg-deb", "-x", str(package), str(tree))
    shutil.rmtree(apt)
