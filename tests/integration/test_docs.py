# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks on the pages of docs/, run as they stand."""

from __future__ import annotations

import os
import pathlib
import pwd
import re
import shutil
import subprocess
import sys
import time
from typing import Any, Iterator

import pytest
import yaml
from foreign_guest import ForeignGuest, NoGuest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FAILING = "# fails without the hardware"
#: What a host lacks for the tasks that say so.
HARDWARE = ("/dev/vhost-vsock", "/sys/bus/pci/devices/0000:ff:1f.7")


def tasks_of(page: str) -> list[dict[str, Any]]:
    """The tasks on a page, in their order; those that are to fail here fail the play when they do not."""
    tasks = []
    for block in re.findall(
        r"^```yaml\n(.*?)^```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    ):
        for number, task in enumerate(yaml.safe_load(block)):
            if block.startswith(FAILING) and not os.path.exists(HARDWARE[number]):
                result = f"refused_{number}"
                task = {
                    **task,
                    "register": result,
                    "failed_when": f"{result}.kind | default('') not in ['HostError', 'AssetError']",
                }
            tasks.append(task)
    return tasks


@pytest.fixture
def bridge() -> Iterator[str]:
    """A bridge of the host."""
    name = f"kd{os.getpid() % 100000}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True)


@pytest.fixture
def storage_daemon(host: Any) -> Iterator[None]:
    """A process that serves a disk over vhost-user."""
    program = shutil.which("qemu-storage-daemon")
    if program is None:
        pytest.skip("this host has no qemu-storage-daemon")
    disk, path = host.root / "served.img", host.root / "blk.sock"
    disk.write_bytes(bytes(1 << 20))
    export = f"type=vhost-user-blk,id=x,node-name=d,addr.type=unix,addr.path={path}"
    with subprocess.Popen([program, "--blockdev", f"file,node-name=d,filename={disk}", "--export", export]) as daemon:
        deadline = time.monotonic() + 10
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield
        daemon.terminate()


def play(page: str, host: Any, **variables: str) -> None:
    """Run the tasks on a page; all but two at most have something to do."""
    directories = {"state_dir": str(host.root / "state"), "run_dir": str(host.root / "run")}
    # What auto comes to on this host is another test's question.
    sandboxes = {**directories, "accelerator": "tcg"}
    tasks = tasks_of(page)
    whole = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"work": str(host.root), **variables},
        "module_defaults": {
            "group/kata.hypervisor.kata": directories,
            "kata.hypervisor.kata_sandbox": sandboxes,
            "kata.hypervisor.kata_template": sandboxes,
        },
        "tasks": tasks,
    }
    playbook = host.root / "page.yml"
    playbook.write_text(yaml.safe_dump([whole], sort_keys=False), encoding="utf-8")
    done = subprocess.run(
        [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-c", "local", str(playbook)],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    changed = re.search(r"ok=(\d+)\s+changed=(\d+)", done.stdout)
    assert changed and int(changed[1]) == len(tasks) and int(changed[2]) >= len(tasks) - 2, done.stdout


@pytest.mark.parametrize("page", ["devices.md", "digests.md", "templates.md"])
def test_a_page_can_be_done_as_it_stands(
    page: str, host: Any, bridge: str, macvtap: tuple[str, str], storage_daemon: None
) -> None:
    (host.root / "data.img").write_bytes(bytes(16 << 20))
    (host.root / "shared").mkdir()
    host.ids.update({"web-1", "small", "large"})
    play(page, host, kernel=str(host.assets.kernel), initrd=str(host.assets.initrd), bridge=bridge, macvtap=macvtap[0])


def test_the_page_of_qemu_can_be_done_as_it_stands(host: Any, root_image: pathlib.Path) -> None:
    try:
        arm = ForeignGuest("aarch64")
    except NoGuest as reason:
        pytest.skip(str(reason))
    host.root.chmod(0o711)
    shutil.copyfile(root_image, host.root / "root.ext4")
    guest = {name: shutil.copyfile(getattr(host.assets, name), host.root / name) for name in ("kernel", "initrd")}
    host.ids.update({"arm-1", "web-1", "web-2"})
    files = {name: str(path) for name, path in guest.items()}
    play("qemu.md", host, arm_kernel=str(arm.kernel), arm_initrd=str(arm.initrd), user="nobody", **files)
    for sandbox in sorted(host.ids):
        host.converge(id=sandbox, wait_for={"console": "kata-guest: ready", "timeout": 120})
    assert pwd.getpwuid(os.stat(f"/proc/{host.facts('web-2')['pid']}").st_uid).pw_name == "nobody"
