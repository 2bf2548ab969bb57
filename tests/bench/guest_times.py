# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks in one guest through the connection plugin and through ssh, files through its data channel, and one command in many guests.

The guest is Debian with systemd, Python and an ssh server, emulated. ssh reaches it through a published port, and keeps its connection open.
"""

from __future__ import annotations

import io
import os
import pathlib
import subprocess
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
from tests.bench.playing import play
from tests.bench.rows import Row
from tests.support.guest_assets import guest_assets
from tests.support.loopback_sshd import free_port
from tests.support.packages_image import packages_image
from tests.support.qemu_lab import QemuLab

FILE_BYTES = 100_000_000
PATIENCE = 900.0
GUESTS = 12
TITLE = "Into the guest, emulated"


def task_times(work: pathlib.Path, variables: dict[str, Any], rounds: int, sandbox: str = "") -> dict[str, list[float]]:
    """Seconds of tasks in the guest, by task. For the parameters see `play`."""
    tasks = []
    for _round in range(rounds + 1):
        tasks += [
            {"name": "ping", "ansible.builtin.ping": {}},
            {"name": "raw", "ansible.builtin.raw": "true"},
        ]
    # The first of each opens connections.
    return {name: found[1:] for name, found in play(work, tasks, variables, sandbox).items()}


def file_times(spec: SandboxSpec, work: pathlib.Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of a plain stream through the channel, and of kata_copy."""
    source = work / "blob"
    source.write_bytes(os.urandom(FILE_BYTES))
    data = source.read_bytes()
    seconds: dict[str, list[float]] = {}
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
                seconds.setdefault(name, []).append(time.monotonic() - began)
            channel.run(b"rm -f /root/copy /root/stream")
            (work / "back").unlink()
    return seconds


def many_times(lab: QemuLab, guests: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of one command in one guest, and in many."""
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
    return [seconds(ids[:1]) for _round in range(rounds)], [seconds(ids) for _round in range(rounds)]


def rows(rounds: int) -> list[Row]:
    """Measure."""
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
            plugin = task_times(
                work,
                {"ansible_connection": "local", **directories, **python},
                rounds,
                "web",
            )
            ssh = task_times(
                work,
                {
                    "ansible_host": "127.0.0.1",
                    "ansible_port": port,
                    "ansible_user": "root",
                    "ansible_ssh_private_key_file": str(work / "key"),
                    "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
                    "ansible_control_path_dir": str(work / "cp"),
                    **python,
                },
                rounds,
            )
            files = file_times(lab.spec(), work, min(3, rounds))
            lab.remove_all()
            one, many = many_times(lab, GUESTS, rounds)
        finally:
            lab.remove_all()
            lab.close()
    megabytes = FILE_BYTES // 1_000_000
    return [
        Row("ping", plugin["ping"], ssh["ping"], "the same through ssh", 1.3),
        Row("raw", plugin["raw"], ssh["raw"], "the same through ssh", 1.3),
        Row(
            f"kata_copy of {megabytes} MB into the guest", files["copy in"], files["stream in"], "a plain stream", 1.25
        ),
        Row(f"kata_copy of {megabytes} MB out of it", files["copy out"], files["stream out"], "a plain stream", 1.25),
        Row(f"kata_exec in {GUESTS} guests", many, one, "in one guest", 2.0),
    ]
