# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tasks do on a disk until they are stopped: installs, switches, engine copies, records, saved sandboxes. Run by test_power_loss.py.

After each step that has succeeded, a line with it goes to the standard output: from then on the step must survive.

    python -m tests.support.power_loss_work DIRECTORY SEED
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import random
import sys
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.delivery.engine_copy import (
    EngineCopy,
    archive_of,
    digest_of,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.delivery.engine_installation import install
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.asset_store import AssetStore, Wanted
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.built_files import BuiltFile
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.sources import Checksum, fetch_from
from tests.support.mock_lab import BOOT, MockLab


def install_asset(root: pathlib.Path, number: int, chance: random.Random) -> dict[str, Any]:
    """A further version of an asset, and the switch to it."""
    source = root.parent / "source"
    source.write_bytes(chance.randbytes(chance.choice([100, 5000, 300_000])))
    checksum = Checksum("sha256", hashlib.sha256(source.read_bytes()).hexdigest())
    store = AssetStore(str(root / "assets"), "vmm")
    with store.lock():
        store.install(
            f"{number}.0",
            [Wanted("", "vmm", 0o755)],
            fetch_from("", str(source), store.root, checksum),
            checksum,
            "",
            True,
            False,
        )
        store.prune(3, f"{number}.0", False)
    return {"step": "asset", "version": f"{number}.0"}


def install_engine(root: pathlib.Path, number: int, chance: random.Random) -> dict[str, Any]:
    """A further copy of an engine."""
    files = {f"modules/kata_{name}.py": f"ANSWER = {number}\n".encode() * chance.randint(1, 200) for name in "abcdef"}
    archive = root.parent / "engine.zip"
    archive.write_bytes(archive_of(files))
    copy = EngineCopy(digest_of(files), str(root / "engine"), str(root / "notes"))
    install(copy, str(archive))
    return {"step": "engine", "digest": copy.digest}


def build_file(root: pathlib.Path, number: int, chance: random.Random) -> dict[str, Any]:
    """An image that is built again."""
    content = chance.randbytes(chance.choice([10, 100_000]))

    def make(work: str) -> tuple[str, dict[str, Any]]:
        pathlib.Path(work, "made").write_bytes(content)
        return os.path.join(work, "made"), {}

    made = BuiltFile(str(root / "images/guest.img")).converge({"number": number}, make, check_mode=False)
    return {"step": "image", "sha256": made["sha256"]}


def save_sandbox(root: pathlib.Path, number: int, _chance: random.Random) -> dict[str, Any]:
    """A sandbox that is started and saved."""
    lab = MockLab(root / "lab")
    name = f"s{number % 4}"
    lab.run(id=name, state="started", **BOOT)
    lab.run(id=name, state="saved")
    return {"step": "saved", "id": name}


STEPS = (install_asset, install_engine, build_file, save_sandbox)


def main(root: pathlib.Path, seed: int) -> None:
    """Work until somebody ends it."""
    chance = random.Random(seed)
    number = 0
    while True:
        number += 1
        step = chance.choice(STEPS)
        sys.stdout.write(json.dumps({"step": "begun", "what": step.__name__}) + "\n")
        sys.stdout.flush()
        sys.stdout.write(json.dumps(step(root, number, chance)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
