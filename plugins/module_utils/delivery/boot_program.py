# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that systemd runs at boot: parts of this collection as one file, which needs nothing but Python."""

from __future__ import annotations

import os
import re
import sys
from typing import Any, Iterator

from ..records.record import COLLECTION_VERSION
from .engine_copy import archive_of, digest_of

PACKAGE = "ansible_collections.kata.hypervisor.plugins.module_utils"
PROGRAM = "kata-hypervisor.pyz"
NETWORK_PROGRAM = "kata-network.pyz"

#: The modules whose `main` the programs for sandboxes and for networks run. They are named and not imported, since they are in layers above this one.
ENTRY = "engine.converge"
NETWORK_ENTRY = "resources.networks.boot"

#: A relative import. Python's own parser would take half a second of each task; a test compares the two.
IMPORT = re.compile(r"^ *from (\.+)([\w.]*) import (?:\(([^)]*)\)|([^\n]*))", re.MULTILINE)


def sources(entry: str = ENTRY) -> dict[str, bytes]:
    """Every file of this collection that the program needs, by its path below module_utils. Each task's payload contains all of them."""
    found: dict[str, bytes] = {}
    to_read, seen = [entry], set()
    while to_read:
        name = to_read.pop()
        # The package has no code of its own: it is an empty file in a task's payload, and missing in the host's copy of the engine.
        if not name or name in seen:
            continue
        seen.add(name)
        package = name.rpartition(".")[0]
        to_read.append(package)
        below = name.replace(".", "/")
        for path in (f"{below}.py", f"{below}/__init__.py"):
            try:
                source = _read_module_utils(path)
            except OSError:
                continue  # The name is defined in a module; it is not a module.
            found[path] = source
            to_read += imported_names(source, name if path.endswith("/__init__.py") else package)
            break
    return found


def imported_names(source: bytes, package: str) -> Iterator[str]:
    """The modules that a source file imports from module_utils, and the names that it imports from them, as dotted names below module_utils.

    :param package: the package that the file is in, below module_utils
    """
    parts = package.split(".") if package else []
    for dots, module, many, few in IMPORT.findall(source.decode()):
        base = ".".join([*parts[: len(parts) - len(dots) + 1], *([module] if module else [])])
        yield base
        for name in re.findall(r"\w+", many or few):
            yield f"{base}.{name}".lstrip(".")


def _read_module_utils(path: str) -> bytes:
    """The content of a file below module_utils, which is in an archive while a task runs."""
    loader: Any = sys.modules[__name__].__loader__
    content: bytes = loader.get_data(os.path.join(os.path.dirname(os.path.dirname(__file__)), path))
    return content


def program_bytes(entry: str = ENTRY) -> bytes:
    """The program as a zip file. The same sources give the same bytes."""
    folder = PACKAGE.replace(".", "/")
    files = {f"{folder}/{path}": source for path, source in sources(entry).items()}
    parts = PACKAGE.split(".")
    for depth in range(1, len(parts) + 1):
        files.setdefault("/".join(parts[:depth]) + "/__init__.py", b"")
    files["__main__.py"] = f"from {PACKAGE}.{entry} import main\n\nmain()\n".encode()
    return archive_of(files)


def program_path(state_root: str, entry: str = ENTRY, program: str = PROGRAM) -> str:
    """The path of this version of the program on a host."""
    return os.path.join(state_root, "lib", f"{COLLECTION_VERSION}-{digest_of(sources(entry))[:12]}", program)
