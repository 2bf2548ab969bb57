# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest that tests and benchmarks boot, made by the collection's own roles and kept in a cache."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

from tests.support.checkout import ROOT

HERE = pathlib.Path(__file__).resolve().parent


class Assets:
    """A guest kernel, an initrd with busybox, and one that has the QEMU guest agent too."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.kernel = directory / "vmlinuz"
        self.initrd = directory / "initrd.img"
        self.agent_initrd = directory / "initrd-agent.img"


def cache_directory() -> pathlib.Path:
    """Where the slow things are kept between runs."""
    home = os.environ.get("KATA_HYPERVISOR_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "kata-hypervisor"
    )
    return pathlib.Path(home).expanduser()


def guest_assets(kernel_package: str = "") -> Assets:
    """The guest, from the cache where its sources have not changed since, or made now.

    :param kernel_package: a kernel of the distribution's; empty takes the one that the role kata_kernel takes
    """
    directory = cache_directory() / (f"guest-{kernel_package}" if kernel_package else "guest")
    made = Assets(directory)
    if not made.agent_initrd.exists() or made.initrd.stat().st_mtime < _newest_source():
        command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), str(HERE / "guest_assets.yml")]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        done = subprocess.run(
            [*command, "-e", f"guest_directory={directory} kata_kernel_package={kernel_package}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the guest for the tests could not be made: {done.stdout}{done.stderr}")
        made.initrd.touch()
    return made


def _newest_source() -> float:
    roles = [
        path for role in ("kata_image", "kata_kernel") for path in (ROOT / "roles" / role).rglob("*") if path.is_file()
    ]
    code = [ROOT / "plugins/module_utils" / name for name in ("guest/identity.py", "provisioning/initrd.py")]
    return max(path.stat().st_mtime for path in [*roles, *code, HERE / "guest_assets.yml"])
