# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks in one guest through the connection plugin and through ssh, files through its data channel, and one command in many guests.

    python -m tests.bench.guest_times [ROUNDS [GUESTS]]     5 rounds and 50 guests when not given

The guest is Debian with systemd, Python and an ssh server, emulated. ssh reaches it through a published port, and keeps its connection open.
"""

from __future__ import annotations

import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.batch import converge_many
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.guest_commands import (
    GuestCommand,
    in_each_guest,
    run_command,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.guest_copies import FileCopy, copy_file
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.guests import guest_channel
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec
from tests.support.checkout import ROOT
from tests.support.guest_assets import guest_assets
from tests.support.loopback_sshd import free_port
from tests.support.packages_image import packages_image
from tests.support.qemu_lab import QemuLab

FILE_BYTES = 100_000_000
PATIENCE = 900.0


def play_times(work: pathlib.Path, inventory: dict[str, Any], rounds: int) -> dict[str, float]:
    """Median seconds of tasks, by guest and task. Both guests are the same one."""
    (work / "hosts.json").write_text(json.dumps({"all": {"hosts": inventory}}))
    tasks = []
    for number in range(rounds + 1):
        tasks += [
            {"name": f"ping {number}", "ansible.builtin.ping": {}},
            {"name": f"raw {number}", "ansible.builtin.raw": "true"},
        ]
    times: dict[str, float] = {}
    for guest in inventory:
        if guest == "host1":
            continue
        (work / "play.json").write_text(json.dumps([{"hosts": guest, "gather_facts": False, "tasks": tasks}]))
        log = work / f"{guest}.times"
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/bench/callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "task_times",
            "BENCH_TIMES": str(log),
        }
        program = str(pathlib.Path(sys.executable).with_name("ansible-playbook"))
        words = [program, "-i", str(work / "hosts.json"), str(work / "play.json")]
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        for kind in ("ping", "raw"):
            # The first of each opens connections.
            found = [line["seconds"] for line in lines if line["name"].startswith(kind)][1:]
            times[f"{guest} {kind}"] = statistics.median(found)
    return times


def file_times(spec: SandboxSpec, work: pathlib.Path, rounds: int) -> dict[str, float]:
    """Median megabytes a second of a plain stream through the channel, and of kata_copy."""
    source = work / "blob"
    source.write_bytes(os.urandom(FILE_BYTES))
    data = source.read_bytes()
    rates: dict[str, list[float]] = {}
    with guest_channel(spec, PATIENCE) as channel:
        for _round in range(rounds):
            for name, run in (
                ("stream in", lambda: channel.run(b"cat >/root/stream", io.BytesIO(data), len(data))),
                ("copy in", lambda: copy_file(FileCopy(str(source), "/root/copy"), spec.id, channel, False)),
                ("stream out", lambda: channel.run(b"cat /root/stream")),
                (
                    "copy out",
                    lambda: copy_file(FileCopy("/root/copy", f"{work}/back", from_guest=True), spec.id, channel, False),
                ),
            ):
                began = time.monotonic()
                run()
                rates.setdefault(name, []).append(FILE_BYTES / 1e6 / (time.monotonic() - began))
            channel.run(b"rm -f /root/copy /root/stream")
            (work / "back").unlink()
    return {name: statistics.median(found) for name, found in rates.items()}


def many_times(lab: QemuLab, guests: int, rounds: int) -> tuple[float, float]:
    """Median seconds of one command in one guest, and in many."""
    ids = [f"many-{number}" for number in range(guests)]
    options = {
        "kernel_path": str(lab.assets.kernel),
        "initrd_path": str(lab.assets.agent_initrd),
        "memory_mb": 128,
        "accelerator": "tcg",
        "wait_for": {"agent": True, "timeout": PATIENCE},
    }
    lab.ids.update(ids)
    results = converge_many([lab.spec(one, state="started", **options) for one in ids], False, 4)
    failed = [result["msg"] for result in results if result.get("failed")]
    if failed:
        raise SystemExit(failed[0])
    where = SandboxSpec("any", **lab.directories())

    def seconds(chosen: list[str]) -> float:
        began = time.monotonic()
        answers = in_each_guest(
            where, chosen, lambda _spec, way: run_command(GuestCommand(shell="true"), way), 16, PATIENCE
        )
        if any(answer.get("failed") for answer in answers):
            raise SystemExit(next(answer["msg"] for answer in answers if answer.get("failed")))
        return time.monotonic() - began

    seconds(ids)  # The first command of a guest starts its shell.
    return statistics.median(seconds(ids[:1]) for _round in range(rounds)), statistics.median(
        seconds(ids) for _round in range(rounds)
    )


def main() -> None:
    """Print the tables."""
    rounds, guests = (*map(int, sys.argv[1:]), *(5, 50)[len(sys.argv) - 1 :])
    lab = QemuLab(guest_assets())
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        work = pathlib.Path(name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(work / "key")], check=True)
        port = free_port()
        try:
            lab.start(
                image_path=str(packages_image()),
                initramfs_path=str(lab.assets.initrd),
                root_disk_mb=1024,
                memory_mb=768,
                network="user",
                ports=[f"127.0.0.1:{port}:22"],
                ssh_keys=[(work / "key.pub").read_text().strip()],
                kernel_params=[],
                wait_for={"agent": True, "timeout": PATIENCE},
            )
            lab.run(wait_for={"ssh": True, "timeout": PATIENCE})
            directories = {f"kata_sandbox_{key}": value for key, value in lab.directories().items()}
            python = {"ansible_python_interpreter": "/usr/bin/python3"}
            inventory = {
                "plugin": {
                    "ansible_connection": "kata.hypervisor.sandbox",
                    "kata_sandbox_id": "web",
                    **directories,
                    **python,
                },
                "ssh": {
                    "ansible_host": "127.0.0.1",
                    "ansible_port": port,
                    "ansible_user": "root",
                    "ansible_ssh_private_key_file": str(work / "key"),
                    "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
                    "ansible_control_path_dir": str(work / "cp"),
                    **python,
                },
            }
            times = play_times(work, inventory, rounds)
            rates = file_times(lab.spec(), work, max(2, rounds // 2))
            lab.remove_all()
            one, many = many_times(lab, guests, rounds)
        finally:
            lab.remove_all()
            lab.close()
    print(f"\nOne guest, medians of {rounds} tasks, seconds")
    for kind in ("ping", "raw"):
        plugin, ssh = times[f"plugin {kind}"], times[f"ssh {kind}"]
        print(
            f"  {kind:5} through ssh {ssh:6.3f}   through the connection plugin {plugin:6.3f}   ratio {plugin / ssh:5.2f}"
        )
    print(f"\n{FILE_BYTES // 1_000_000} MB, MB/s")
    for way in ("in", "out"):
        stream, copy = rates[f"stream {way}"], rates[f"copy {way}"]
        print(f"  {way:5} plain stream {stream:6.1f}   kata_copy {copy:6.1f}   ratio {copy / stream:5.2f}")
    print(
        f"\nOne command, seconds:  in one guest {one:6.3f}   in {guests} guests {many:6.3f}   ratio {many / one:5.2f}"
    )


if __name__ == "__main__":
    main()
