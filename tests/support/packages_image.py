# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A root image of Debian's packages, built by the collection's own code and kept in a cache: a guest with systemd, and without cloud-init.

Run as a program, it prints variables of a shell with the paths of the image, and of a kernel and an initrd to boot it.
"""

from __future__ import annotations

import fcntl
import pathlib
import shlex
import shutil
import tempfile

from ansible_collections.kata.hypervisor.plugins.module_utils.delivery.engine_copy import digest_of
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.kept_packages import KeptPackages
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.root_image import Recipe, build
from tests.support.checkout import ROOT
from tests.support.guest_assets import cache_directory, guest_assets

RECIPE = Recipe(
    "bookworm",
    (
        *("systemd-sysv", "udev", "dbus", "openssh-server", "iproute2"),
        # What Ansible's modules need, and the agent that starts them without a network.
        *("qemu-guest-agent", "python3", "python3-apt", "sudo"),
    ),
)
#: A change of these files makes a new image.
SOURCES = ("guest/identity.py", "provisioning/kept_packages.py", "provisioning/root_image.py")
THIS = pathlib.Path(__file__)


def packages_image() -> pathlib.Path:
    """The image, from the cache or built now: a minute."""
    directory = cache_directory() / "packages"
    directory.mkdir(parents=True, exist_ok=True)
    # Checkouts that share the cache may have different recipes.
    sources = [THIS, *(ROOT / "plugins/module_utils" / name for name in SOURCES)]
    image = directory / f"image-{digest_of({path.name: path.read_bytes() for path in sources})[:12]}.ext4"
    with open(directory / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.exists():
            with tempfile.TemporaryDirectory(dir=directory, prefix="new-") as work:
                built, _about = build(RECIPE, work, {}, KeptPackages(str(image), {}))
                shutil.move(built, image)
    return image


if __name__ == "__main__":
    assets = guest_assets()
    for name, path in (("KERNEL", assets.kernel), ("INITRD", assets.initrd), ("IMAGE", packages_image())):
        print(f"export KATA_GUEST_{name}={shlex.quote(str(path))}")
