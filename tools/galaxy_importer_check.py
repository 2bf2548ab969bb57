# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the collection and import the tarball as Galaxy would; run in the collection's directory."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile


def main() -> int:
    """The importer's exit code, or 1 when it logs an error without failing."""
    with tempfile.TemporaryDirectory() as work:
        galaxy = pathlib.Path(sys.executable).parent / "ansible-galaxy"
        subprocess.run([str(galaxy), "collection", "build", "--output-path", work], check=True)
        (tarball,) = pathlib.Path(work).glob("*.tar.gz")
        argv = [sys.executable, "-m", "galaxy_importer.main", str(tarball)]
        done = subprocess.run(argv, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    output = done.stdout.decode("utf-8", "replace")
    print(output)
    complaints = [line for line in output.splitlines() if line.startswith(("ERROR", "WARNING"))]
    return done.returncode or int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
