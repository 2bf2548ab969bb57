# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An interpreter of each Python that the collection supports, for noxfile.py.

    python -m tests.hosts.pythons

Those of this machine come first (the path, pyenv), then those that uv can download, then those of Debian's releases, which are only unpacked and use the
libraries of their own release. The others are told, and nox skips what needs them.
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import subprocess
import sys

from tests.hosts import debian_base
from tests.hosts.debian_base import FleetError, run
from tests.hosts.releases import MIRROR
from tests.support.guest_assets import cache_directory
from tools.lint import interpreters
from tools.versions import HOST_PYTHONS

CACHE = cache_directory() / "pythons"
#: A directory for PATH, with a link `python3.X` for each.
LINKS = CACHE / "bin"
#: The releases whose Python it is.
DEBIAN = {"3.9": "bullseye", "3.11": "bookworm", "3.13": "trixie", "3.14": "sid"}


def of_this_machine(version: str) -> pathlib.Path:
    """The interpreter that is installed.

    :raises FleetError: there is none
    """
    found = shutil.which(f"python{version}", path=":".join(interpreters()))
    if found is None:
        raise FleetError("it is not installed")
    # Not the link in a virtual environment.
    return pathlib.Path(found).resolve()


def downloaded(version: str) -> pathlib.Path:
    """The interpreter that uv downloads.

    :raises FleetError: it cannot be downloaded
    """
    uv = pathlib.Path(sys.executable).with_name("uv")
    run(str(uv), "python", "install", "--no-bin", "--install-dir", str(CACHE / "uv"), version)
    return next((CACHE / "uv").glob(f"cpython-{version}.*/bin/python{version}"))


def of_debian(version: str) -> pathlib.Path:
    """The interpreter of a Debian release.

    :raises FleetError: no release has it, or its packages cannot be had
    """
    if version not in DEBIAN:
        raise FleetError("no release of Debian has it")
    release = DEBIAN[version]
    name = f"python-{release}"
    base = debian_base.CACHE / name
    program = pathlib.Path(f"usr/bin/python{version}")

    def use_own_libraries(root: pathlib.Path) -> None:
        libraries = f"{base}/lib/x86_64-linux-gnu"
        loader = ["--set-interpreter", f"{libraries}/ld-linux-x86-64.so.2"]
        words = [*loader, "--force-rpath", "--set-rpath", f"{libraries}:{base}/usr/lib/x86_64-linux-gnu"]
        run("patchelf", *words, str(root / program))
        # Its venv module takes the wheel of pip from here.
        wheels = "/usr/share/python-wheels"
        library = root / f"usr/lib/python{version}"
        for path in (library / "ensurepip/__init__.py", *library.glob("_sysconfigdata*.py")):
            path.write_text(path.read_text().replace(wheels, f"{base}{wheels}"))

    return debian_base.make(name, release, f"python{version}-venv", [MIRROR], use_own_libraries) / program


def works(python: pathlib.Path) -> bool:
    """Whether it is an interpreter with the modules that installing packages needs."""
    with contextlib.suppress(OSError):
        return subprocess.run([python, "-c", "import ssl, zlib"], capture_output=True, check=False).returncode == 0
    return False


def link(version: str) -> str:
    """Put a link to an interpreter in LINKS; where it is, or why there is none."""
    path = LINKS / f"python{version}"
    reasons = []
    for source in (of_this_machine, downloaded, of_debian):
        if works(path):
            return str(path.resolve())
        try:
            found = source(version)
        except FleetError as error:
            # The last line of a program's words is the cause.
            reasons.append(str(error).strip().splitlines()[-1].strip())
        else:
            path.unlink(missing_ok=True)
            path.symlink_to(found)
    return str(path.resolve()) if works(path) else f"none ({'; '.join(reasons)})"


if __name__ == "__main__":
    LINKS.mkdir(parents=True, exist_ok=True)
    for wanted in HOST_PYTHONS:
        print(f"Python {wanted}: {link(wanted)}", flush=True)
