# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The power goes while tasks work: what a task has reported is there, and what is there works.

The tasks work on a file system in a file (a loop device). At random moments they are stopped (SIGSTOP) and the file is copied, without a sync: what the
kernel has in memory for that file system is lost, as it is when the power goes. The copies are mounted, which replays the journal, and looked at.

This finds what was never written out: a rename without the content before it, an entry of a directory that nobody synced. It finds nothing of a disk that
loses what it has reported as written, or of writes that it does in another order: a copy has all that the kernel has handed to the device.

KATA_POWER_LOSS_ROUNDS says how many copies of each file system are made (`make soak` makes more), KATA_POWER_LOSS_SEED which.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.delivery.engine_copy import EngineCopy
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.asset_store import AssetStore
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.built_files import BuiltFile
from tests.support.checkout import ROOT
from tests.support.mock_lab import MockLab
from tests.support.waiting import wait_until

ROUNDS = int(os.environ.get("KATA_POWER_LOSS_ROUNDS", "4"))
SEED = int(os.environ.get("KATA_POWER_LOSS_SEED", "11"))
SIZE = {"ext4": 64 << 20, "xfs": 320 << 20, "btrfs": 128 << 20}
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"], "btrfs": ["mkfs.btrfs", "-q", "-f"]}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")


@contextlib.contextmanager
def mounted(disk: pathlib.Path, place: pathlib.Path, kind: str) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", kind, "-o", "loop", str(disk), str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this machine mounts no {kind} in a file: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def copy_of(disk: pathlib.Path, target: pathlib.Path) -> None:
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(disk), str(target)], check=True)


@pytest.mark.parametrize("kind", SIZE)
def test_what_was_reported_is_there_and_what_is_there_works(kind: str, tmp_path: pathlib.Path) -> None:
    if shutil.which(MAKE[kind][0]) is None:
        pytest.skip(f"this machine has no {MAKE[kind][0]}")
    disk, place = tmp_path / "disk", tmp_path / "mounted"
    with open(disk, "wb") as stream:
        stream.truncate(SIZE[kind])
    subprocess.run([*MAKE[kind], str(disk)], check=True, capture_output=True)
    chance = random.Random(SEED)
    copies: list[tuple[pathlib.Path, list[dict[str, Any]]]] = []
    with mounted(disk, place, kind):
        (place / "root").mkdir()
        os.sync()
        reports = tmp_path / "reports"
        with open(reports, "wb") as output:
            work = subprocess.Popen(
                [sys.executable, "-m", "tests.support.power_loss_work", str(place / "root"), str(SEED)],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.PIPE,
            )
        try:
            for number in range(ROUNDS):
                _wait_for_more(reports, work)
                time.sleep(chance.uniform(0.05, 1.0))
                work.send_signal(signal.SIGSTOP)
                copies.append(
                    (tmp_path / f"copy-{number}", [json.loads(line) for line in reports.read_text().splitlines()])
                )
                copy_of(disk, copies[-1][0])
                work.send_signal(signal.SIGCONT)
            assert work.poll() is None, work.stderr.read().decode() if work.stderr else ""
        finally:
            work.kill()
            work.communicate()
    for path, reported in copies:
        with mounted(path, place, kind):
            _look(place / "root", reported)
        path.unlink()
    assert any(line["step"] == "saved" for line in copies[-1][1]) or ROUNDS < 4


def _wait_for_more(reports: pathlib.Path, work: subprocess.Popen[bytes]) -> None:
    """Until further steps are done."""
    before = reports.stat().st_size
    wait_until(lambda: work.poll() is not None or reports.stat().st_size >= before + 300, "further steps")
    assert work.poll() is None, work.stderr.read().decode() if work.stderr else ""


def _look(root: pathlib.Path, reported: list[dict[str, Any]]) -> None:
    last = {line["step"]: line for line in reported}
    _look_at_assets(root, last.get("asset"))
    for name in os.listdir(root / "engine") if (root / "engine").is_dir() else []:
        if not name.startswith("."):
            assert EngineCopy(name, str(root / "engine"), str(root / "no-notes")).is_usable(), (
                f"the copy {name} is damaged"
            )
    for line in reported:
        if line["step"] == "engine":
            assert EngineCopy(line["digest"], str(root / "engine"), str(root / "no-notes")).is_usable(), (
                f"the copy {line['digest']} is lost"
            )
    if "image" in last:
        image = BuiltFile(str(root / "images/guest.img"))
        digest = hashlib.sha256(pathlib.Path(image.path).read_bytes()).hexdigest()
        # The next build may have been under way: then its file is there, complete, and its note perhaps not yet.
        busy = reported[-1] == {"step": "begun", "what": "build_file"}
        assert busy or digest == last["image"]["sha256"] == image.note().get("sha256")
    _look_at_sandboxes(root, reported)


def _look_at_assets(root: pathlib.Path, last: dict[str, Any] | None) -> None:
    store = AssetStore(str(root / "assets"), "vmm")
    for version in store.versions():
        assert store.drift(version) == [], f"version {version} is damaged"
        assert store.manifest(version), f"the manifest of version {version} is damaged"
    if last:
        assert last["version"] in store.versions(), f"version {last['version']} was reported and is lost"
        assert float(store.current()) >= float(last["version"])
        assert os.path.isfile(os.path.join(store.directory, "current", "vmm"))


def _look_at_sandboxes(root: pathlib.Path, reported: list[dict[str, Any]]) -> None:
    """A sandbox that was reported as saved, and is not in the work of the moment, is restored; any other one is in a state that a task can end."""
    lab = MockLab(root / "lab")
    lab.reboot()
    saved = {line["id"] for line in reported if line["step"] == "saved"}
    busy = reported[-1] == {"step": "begun", "what": "save_sandbox"}
    there = os.listdir(root / "lab/state/sandboxes") if saved or (root / "lab/state/sandboxes").is_dir() else []
    for name in there:
        state = lab.facts(name)["state"]
        if name in saved and not busy:
            assert state == "saved", f"sandbox {name} was reported as saved and is {state}"
        if state == "saved":
            assert lab.run(id=name, state="started")["sandbox"]["state"] == "started", (
                f"sandbox {name} cannot be restored"
            )
        lab.run(id=name, state="absent")
    assert busy or saved <= set(there)
