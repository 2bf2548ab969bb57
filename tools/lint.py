# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run every static check of the collection on a copy of the checkout; tell each one's time and verdict.

The copy holds what git tracks or would track, so uncommitted work is checked too, and stands where ansible-test wants a collection:
in `.../ansible_collections/kata/hypervisor`. Nothing but a package index is needed from the network.

Usage: lint.py [CHECK...]
"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Callable, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
BIN = pathlib.Path(sys.executable).parent
CACHE = ROOT / ".cache"
PARALLEL = int(os.environ.get("LINT_JOBS", "2"))

GET_PIP = '''\
"""Stands in for get-pip.py, which a host without access to its site cannot have: ensurepip first, then the wanted pip."""
import ensurepip
import os
import subprocess
import sys

# ensurepip makes pip forget its configuration in os.environ.
environment = {name: value for name, value in os.environ.items() if name != "GET_PIP"}
ensurepip.bootstrap(default_pip=True)
wanted = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install"] + wanted, env=environment))
'''

# ansible-lint is a check of its own; the importer would run it once more, with a limit of time that a busy machine breaks.
IMPORTER_CONFIG = """\
[galaxy-importer]
RUN_ANSIBLE_TEST = False
RUN_ANSIBLE_DOC = True
RUN_ANSIBLE_LINT = False
RUN_FLAKE8 = False
CHECK_REQUIRED_TAGS = True
CHECK_CHANGELOG = True
ANSIBLE_LOCAL_TMP = {work}/tmp
"""


# Its pylint takes more than half of the time, and finds in tests and tools what ruff finds there too.
SANITY = """"$0" sanity --color no --skip-test pylint && "$0" sanity --color no --test pylint plugins/"""


class Check(NamedTuple):
    """One static check: what it is called, and what runs it in the copy."""

    name: str
    command: Callable[[pathlib.Path], list[str]]


def tool(name: str, *arguments: str) -> Callable[[pathlib.Path], list[str]]:
    """A program of the virtual environment, run in the copy."""
    return lambda tree: [str(BIN / name), *arguments]


# Slowest first, so that two at a time end together.
CHECKS = [
    Check("ansible-test sanity", lambda tree: ["sh", "-c", SANITY, str(BIN / "ansible-test")]),
    Check("ansible-lint", tool("ansible-lint", "--offline", "--profile", "production", "--nocolor")),
    Check("galaxy-importer", lambda tree: [sys.executable, str(tree / "tools/galaxy_importer_check.py")]),
    Check(
        "antsibull-docs",
        tool("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs=self", "."),
    ),
    Check("mypy", tool("mypy", "-p", "ansible_collections.kata.hypervisor.plugins.module_utils")),
    Check("antsibull-changelog", tool("antsibull-changelog", "lint")),
    Check("reuse", tool("reuse", "--root", ".", "lint", "--quiet")),
    Check("ruff", tool("ruff", "check", "--quiet", ".")),
    Check("ruff format", tool("ruff", "format", "--check", "--quiet", ".")),
    Check("yamllint", tool("yamllint", "--strict", ".")),
]


class Verdict(NamedTuple):
    """How a check ended."""

    name: str
    passed: bool
    seconds: float
    output: str


def copy_checkout(collections: pathlib.Path) -> pathlib.Path:
    """The checkout's files, tracked or about to be, at the place where a collection belongs."""
    tree = collections / "ansible_collections/kata/hypervisor"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        source = ROOT / name
        if not name or name.startswith(".collections/") or not os.path.lexists(source):
            continue
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    return tree


def put_get_pip_stub() -> None:
    """Put the stand-in where ansible-test looks before it downloads get-pip.py (never over a real one)."""
    import ansible_test

    source = pathlib.Path(ansible_test.__file__).parent / "_internal/python_requirements.py"
    for version in set(re.findall(r"""pip=['"]([0-9.]+)['"]""", source.read_text())):
        path = pathlib.Path.home() / ".ansible/test/cache" / f"get_pip_{version.replace('.', '_')}.py"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(GET_PIP)


def interpreters() -> list[str]:
    """Directories of real interpreters: pyenv's shims fail for versions that are not switched on."""
    versions = sorted(pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv")).glob("versions/*/bin"))
    path = [part for part in os.environ.get("PATH", "").split(":") if not part.endswith("/shims")]
    return [str(BIN), *path, *map(str, versions)]


def run(check: Check, tree: pathlib.Path, environment: dict[str, str]) -> Verdict:
    """Run one check to its end."""
    started = time.monotonic()
    done = subprocess.run(
        check.command(tree),
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = done.stdout.decode("utf-8", "replace")
    passed = done.returncode == 0 and "All targets skipped" not in output
    return Verdict(check.name, passed, time.monotonic() - started, output)


def main(wanted: list[str]) -> int:
    """Run the checks asked for, or all; 1 when one failed."""
    checks = [check for check in CHECKS if not wanted or check.name in wanted]
    CACHE.mkdir(exist_ok=True)
    put_get_pip_stub()
    # Outside the checkout: ansible-test would ask the git repository around it which files there are.
    with tempfile.TemporaryDirectory(prefix="kata-lint-") as work:
        collections = pathlib.Path(work)
        tree = copy_checkout(collections)
        importer_config = collections / "galaxy-importer.cfg"
        importer_config.write_text(IMPORTER_CONFIG.format(work=work))
        environment = {
            **os.environ,
            "PATH": ":".join(interpreters()),
            "ANSIBLE_CONFIG": str(tree / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "GALAXY_IMPORTER_CONFIG": str(importer_config),
            "MYPYPATH": str(collections),
            "MYPY_CACHE_DIR": str(CACHE / "mypy"),
            "RUFF_CACHE_DIR": str(CACHE / "ruff"),
        }
        print(f"Checking a copy of {ROOT} with {len(checks)} checks, {PARALLEL} at a time")
        failed = []
        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            for future in concurrent.futures.as_completed(
                [pool.submit(run, check, tree, environment) for check in checks]
            ):
                verdict = future.result()
                if not verdict.passed:
                    failed.append(verdict.name)
                    print(verdict.output.rstrip().replace(str(tree) + "/", ""))
                print(
                    f"{verdict.name:22} {verdict.seconds:6.1f} s  {'passed' if verdict.passed else 'FAILED'}",
                    flush=True,
                )
    print(
        f"lint: {len(failed)} of {len(checks)} checks failed: {', '.join(failed)}"
        if failed
        else f"lint: {len(checks)} checks passed"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
