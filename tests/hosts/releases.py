# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests that use real QEMU, on the QEMU and the Python of other Debian releases.

    python -m tests.hosts.releases RELEASE... [-- PYTEST ARGUMENT...]

A room is systemd-nspawn over the release's file system: this checkout and the guest assets (made here) are bound into it, it has a /tmp and a network of
its own, and all that it writes is gone with it. Without arguments for pytest it runs tests/integration/qemu and the contract of all
drivers. Needs root and Debian's packages systemd-container and mmdebstrap. sid moves: remove its file system from the cache (see debian_base.py) to have
a newer one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from tests.hosts import debian_base
from tests.hosts.debian_base import FleetError
from tests.support.checkout import ROOT
from tests.support.foreign_guest import PACKAGES as FOREIGN
from tests.support.foreign_guest import ForeignGuest, NoGuest
from tests.support.guest_assets import cache_directory, guest_assets

MIRROR = "http://deb.debian.org/debian"
PACKAGES = "qemu-system-x86,qemu-system-arm,qemu-system-ppc,qemu-system-misc,qemu-utils,dpdk-dev,e2fsprogs,iproute2,python3,python3-pytest"
#: What a release has in a package of its own.
RELEASES = {
    "bullseye": "",
    "bookworm": "",
    "trixie": ",qemu-system-s390x,virtiofsd",
    "sid": ",qemu-system-s390x,virtiofsd",
}
TESTS = ["tests/integration/qemu", "tests/integration/test_contract.py"]


def run_tests(release: str, arguments: list[str]) -> int:
    """Run pytest in a room of that release; what it ended with.

    :raises FleetError: there is no such release, or its packages cannot be had
    """
    if release not in RELEASES:
        raise FleetError(f"there is no release {release} here, only {', '.join(RELEASES)}")
    base = debian_base.make(f"qemu-{release}", release, PACKAGES + RELEASES[release], [MIRROR], lambda root: None)
    with tempfile.TemporaryDirectory(prefix="kr-") as temporary:
        os.chmod(temporary, 0o1777)
        argv = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--as-pid2",
            "--pipe",
            "--private-network",
            "--capability=all",
        ]
        argv += ["-D", str(base), "--volatile=overlay", "-M", f"{release}-{os.getpid()}", f"--bind={temporary}:/tmp"]
        argv += [*debian_base.bound_devices(), f"--bind-ro={ROOT}", f"--chdir={ROOT}"]
        argv.append("--bind-ro=/sys/module")  # DPDK looks for VFIO there.
        for assets in (cache_directory() / "guest", cache_directory() / "foreign"):
            (base / assets.relative_to("/")).mkdir(parents=True, exist_ok=True)
            argv.append(f"--overlay={assets}::{assets}")
        argv += [
            f"--setenv=KATA_HYPERVISOR_CACHE={cache_directory()}",
            "--setenv=PYTHONDONTWRITEBYTECODE=1",
            "--setenv=LANG=C.UTF-8",
        ]
        # Without our settings, which ask for a pytest that the oldest of these releases has not.
        pytest = [
            "python3",
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-c",
            "/dev/null",
            f"--rootdir={ROOT}",
            "-ra",
            *arguments,
        ]
        versions = "qemu-system-x86_64 --version | head -n 1; python3 --version"
        words = [*argv, "sh", "-c", f'{versions}; exec "$@"', "sh", *pytest]
        return subprocess.run(words, stdin=subprocess.DEVNULL, check=False).returncode


def main(words: list[str]) -> int:
    """Run the tests on one release after another."""
    releases, arguments = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    if not releases:
        print(__doc__, file=sys.stderr)
        return 2
    guest_assets()
    for architecture in FOREIGN:
        try:
            ForeignGuest(architecture)
        except NoGuest as reason:
            print(f"no guest for {architecture}: {reason}", file=sys.stderr)
    failed = []
    for release in releases:
        print(f"== {release}", flush=True)
        try:
            if run_tests(release, arguments or TESTS):
                failed.append(release)
        except FleetError as error:
            print(error, file=sys.stderr)
            failed.append(release)
    print(f"== FAILED: {', '.join(failed)}" if failed else "== everything passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
