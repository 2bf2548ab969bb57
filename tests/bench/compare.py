# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task costs in this checkout and in another one, in turns on the same host: medians, and their ratios.

    git worktree add /tmp/before COMMIT
    .venv/bin/python -m tests.bench.compare /tmp/before --rounds 15

The payloads that Ansible sends are run again and again without its transport, which is the same in both. Both start the same guest with the same
options, on TCG.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from tests.support.checkout import ROOT
from tests.support.guest_assets import guest_assets

#: Runs of a no-op in each round.
NO_OPS = 4


def _cpu_seconds() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Side:
    """The payloads of one checkout's tasks, on a sandbox of its own.

    :param options: options of the sandbox that only this side gives
    """

    def __init__(self, name: str, root: pathlib.Path, work: pathlib.Path, options: dict[str, str]) -> None:
        self.name, self.root, self.work = name, root, work / name
        self.work.mkdir(mode=0o755)
        self.seconds: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}
        assets = guest_assets()
        sandbox = {"id": "cost", "state_dir": str(self.work / "state"), "run_dir": str(self.work / "run")}
        boot = {
            "kernel_path": str(assets.kernel),
            "initrd_path": str(assets.initrd),
            "memory_mb": 128,
            "max_memory_mb": 1024,
            "max_vcpus": 4,
        }
        link = root / ".collections/ansible_collections/kata"
        if not link.exists():
            link.mkdir(parents=True)
            (link / "hypervisor").symlink_to(root)
        self.payloads = {
            "start": self._payload("start", {**sandbox, **boot, "state": "started", "accelerator": "tcg", **options}),
            "no-op": self._payload("no-op", {**sandbox, "state": "started"}),
            "remove": self._payload("remove", {**sandbox, "state": "absent", "stop_timeout": 0}),
        }

    def _payload(self, name: str, options: dict[str, object]) -> pathlib.Path:
        remote = self.work / f"remote-{name}"
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(self.root / "ansible.cfg"),
            "ANSIBLE_KEEP_REMOTE_FILES": "1",
            "ANSIBLE_PIPELINING": "0",
            "ANSIBLE_REMOTE_TMP": str(remote),
        }
        command = [
            str(pathlib.Path(sys.executable).with_name("ansible")),
            "localhost",
            "-m",
            "kata.hypervisor.kata_sandbox",
            "-a",
            json.dumps(options),
        ]
        done = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=self.root,
        )
        if done.returncode:
            raise SystemExit(done.stdout[-4000:])
        # The last one that was sent is the task; one before it may have brought the copy of the engine.
        return max(remote.rglob("AnsiballZ_*.py"), key=os.path.getmtime)

    def run(self, name: str) -> None:
        """Run a payload, and remember how long it took, and how much of it was CPU time of its own (not of the VMM, which goes on)."""
        before, started = _cpu_seconds(), time.monotonic()
        command = [sys.executable, str(self.payloads[name])]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False
        )
        self.seconds.setdefault(name, []).append(time.monotonic() - started)
        self.cpu.setdefault(name, []).append(_cpu_seconds() - before)
        result = json.loads(done.stdout.decode().strip().splitlines()[-1])
        if done.returncode or result.get("failed") or result["changed"] != (name != "no-op"):
            raise SystemExit(f"{self.name}, {name}: {done.stdout.decode()[-2000:]}")

    def round(self) -> None:
        """A sandbox from nothing to nothing."""
        self.run("start")
        for _again in range(NO_OPS):
            self.run("no-op")
        self.run("remove")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--options", type=json.loads, default={}, help="options of the sandbox that only this checkout gives, as JSON"
    )
    arguments = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="kb-"))
    work.chmod(0o755)
    sides = []
    try:
        for name, root, options in (("other", arguments.other.resolve(), {}), ("this", ROOT, arguments.options)):
            sides.append(Side(name, root, work, options))
        for number in range(arguments.rounds):
            for side in sides if number % 2 else reversed(sides):
                side.round()
    finally:
        for side in sides:
            subprocess.run([sys.executable, str(side.payloads["remove"])], stdout=subprocess.DEVNULL, check=False)
        shutil.rmtree(work, ignore_errors=True)
    other, this = sides
    for what in ("seconds", "cpu"):
        print(f"{what:8} {'other':>8}    {'this':>8}   ratio   of the least")
        before, after = getattr(other, what), getattr(this, what)
        for name in after:
            medians = statistics.median(before[name]), statistics.median(after[name])
            ratio, least = medians[1] / medians[0], min(after[name]) / min(before[name])
            print(
                f"{name:8} {medians[0] * 1000:8.1f} -> {medians[1] * 1000:8.1f} ms {ratio:5.3f}   {least:5.3f}   n {len(after[name])}"
            )


if __name__ == "__main__":
    main()
