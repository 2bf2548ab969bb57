# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks on the pages of docs/ and the commands of the README, run as they are."""

from __future__ import annotations

import functools
import http.server
import json
import os
import pathlib
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from typing import Any, Iterator, NamedTuple

import pytest
import yaml

from tests.support.checkout import ROOT
from tests.support.cloud_image import cloud_image
from tests.support.foreign_guest import ForeignGuest, NoGuest
from tests.support.network_lab import network_lab
from tests.support.qemu_lab import QemuLab
from tests.support.waiting import wait_until

BIN = pathlib.Path(sys.executable).parent
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
#: The first line of a block whose tasks fail, with the type of their error.
FAILS = re.compile(r"# fails with (\w+)\n")
FAILS_WITHOUT_HARDWARE = "# fails without the hardware\n"
#: What a host lacks for the tasks that say so, by the type of their device.
HARDWARE = {"vsock": "/dev/vhost-vsock", "vfio": "/sys/bus/pci/devices/0000:ff:1f.7"}
#: Modules that only read.
READERS = ("_info", "debug", "slurp", "stat", "assert")


class Task(NamedTuple):
    """One task of a page."""

    content: dict[str, Any]
    changes: bool


def module_of(task: dict[str, Any]) -> str:
    """The name of a task's module."""
    return next(name for name in task if "." in name)


def tasks_of(page: str) -> list[Task]:
    """The tasks on a page, in their order. A task that has to fail here makes the play fail if it does not."""
    tasks = []
    for block in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        for task in yaml.safe_load(block):
            kinds = FAILS.match(block)
            expected = [kinds[1]] if kinds else []
            if block.startswith(FAILS_WITHOUT_HARDWARE) and not os.path.exists(HARDWARE[task[module_of(task)]["type"]]):
                expected = ["HostError", "AssetError"]
            if expected:
                tasks.append(
                    Task({**task, "register": "refused", "failed_when": f"refused.kind not in {expected}"}, False)
                )
            else:
                tasks.append(Task(task, not module_of(task).endswith(READERS)))
    assert tasks, f"{page} has no tasks"
    return tasks


@pytest.fixture
def bridge() -> Iterator[str]:
    """A bridge of the host."""
    name = f"kd{os.getpid() % 100000}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True)


@pytest.fixture
def storage_daemon(lab: QemuLab) -> Iterator[None]:
    """A process that serves a disk over vhost-user."""
    program = shutil.which("qemu-storage-daemon")
    if program is None:
        pytest.skip("this host has no qemu-storage-daemon")
    disk, path = lab.root / "served.img", lab.root / "blk.sock"
    disk.write_bytes(bytes(1 << 20))
    export = f"type=vhost-user-blk,id=x,node-name=d,addr.type=unix,addr.path={path}"
    with subprocess.Popen([program, "--blockdev", f"file,node-name=d,filename={disk}", "--export", export]) as daemon:
        wait_until(path.exists, "the socket of the disk's process")
        yield
        daemon.terminate()


def actions_in(value: Any) -> Iterator[list[str]]:
    """Every list of actions in the result of a task, also in those of single sandboxes."""
    if isinstance(value, dict):
        if "actions" in value:
            yield value["actions"]
        for item in value.values():
            yield from actions_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from actions_in(item)


def shown_actions(page: str) -> list[list[str]]:
    """The actions that a page shows as the output of its tasks."""
    text = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return [json.loads(found) for found in re.findall(r'^    "actions": (\[.*\]),?$', text, re.MULTILINE)]


def play(lab: QemuLab, pages: list[str], tasks: list[Task], **variables: str) -> None:
    """Run tasks of pages. Check that those that have something to do have done it, and that the pages show what was done."""
    directories = {"state_dir": str(lab.root / "state"), "run_dir": str(lab.root / "run")}
    # Which accelerator this host has is the subject of another test.
    sandboxes = {**directories, "accelerator": "tcg"}
    content = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"work": str(lab.root), **variables},
        "module_defaults": {
            "group/kata.hypervisor.kata": directories,
            "kata.hypervisor.kata_sandbox": sandboxes,
            "kata.hypervisor.kata_template": sandboxes,
        },
        "tasks": [task.content for task in tasks],
    }
    playbook = lab.root / "page.yml"
    playbook.write_text(yaml.safe_dump([content], sort_keys=False), encoding="utf-8")
    done = subprocess.run(
        [str(BIN / "ansible-playbook"), "-v", "-c", "local", str(playbook)],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_CALLBACK_FORMAT_PRETTY": "false",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    counts = re.search(r"ok=(\d+)\s+changed=(\d+)", done.stdout)
    assert counts, done.stdout
    assert (int(counts[1]), int(counts[2])) == (len(tasks), sum(task.changes for task in tasks)), done.stdout
    results = [
        json.loads(line) for line in re.findall(r"^changed: \[localhost\] => (\{.*\})$", done.stdout, re.MULTILINE)
    ]
    assert len(results) == int(counts[2])
    done_actions = list(actions_in(results))
    assert [shown for page in pages for shown in shown_actions(page) if shown not in done_actions] == []


DEVICE_PAGES = [
    f"docs/devices/{name}.md"
    for name in ("README", "disks", "network", "shared-directories", "serial-and-vsock", "passthrough", "file-memory")
]


def test_the_pages_about_devices(lab: QemuLab, bridge: str, macvtap: tuple[str, str], storage_daemon: None) -> None:
    (lab.root / "data.img").write_bytes(bytes(16 << 20))
    (lab.root / "shared").mkdir()
    lab.ids.add("web-1")
    tasks = [task for page in DEVICE_PAGES for task in tasks_of(page)]
    guest = {"kernel": str(lab.assets.kernel), "initrd": str(lab.assets.initrd)}
    play(lab, DEVICE_PAGES, tasks, bridge=bridge, macvtap=macvtap[0], **guest)


def test_the_pages_about_one_sandbox(lab: QemuLab) -> None:
    """The lifecycle from creation to removal; the other pages use the same sandbox before it is removed."""
    lab.ids.add("web-1")
    create, *others = tasks_of("docs/lifecycle.md")
    names = ("host-facts", "resize", "check-mode", "save-and-restore", "waiting", "console-and-logs")
    pages = [f"docs/{name}.md" for name in names]
    tasks = [create, *(task for page in pages for task in tasks_of(page)), *others]
    play(lab, ["docs/lifecycle.md", *pages], tasks, kernel=str(lab.assets.kernel), initrd=str(lab.assets.initrd))
    assert lab.facts("web-1")["state"] == "absent"


@pytest.mark.parametrize("page", ["many-sandboxes", "templates", "kata-configuration", "digests", "disks-and-volumes"])
def test_a_page_with_sandboxes_of_its_own(page: str, lab: QemuLab) -> None:
    lab.ids.update({"small", "large", "web-1"})
    path = f"docs/{page}.md"
    play(lab, [path], tasks_of(path), kernel=str(lab.assets.kernel), initrd=str(lab.assets.initrd))


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP0p6AqC0x1k9i2g7Wm4t1S4v5n1c2Qm3l0bq2x9y9zW tester@example.org"


def test_the_page_about_names_and_keys(lab: QemuLab) -> None:
    lab.ids.add("web-1")
    path = "docs/identity.md"
    play(lab, [path], tasks_of(path), kernel=str(lab.assets.kernel), initrd=str(lab.assets.initrd), key=KEY)


@pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="the cloud image is made with mmdebstrap")
def test_the_page_about_cloud_images(lab: QemuLab) -> None:
    """The mirror is on loopback and has the image that the tests make. SeaBIOS starts it, and what cloud-init has done is seen from inside, by ssh."""
    lab.ids.add("web-1")
    image = lab.root / "mirror/bookworm/20260101-1/debian-12-genericcloud-amd64.qcow2"
    image.parent.mkdir(parents=True)
    image.symlink_to(cloud_image())
    sums = subprocess.run(
        ["sha512sum", image.name], cwd=image.parent, capture_output=True, text=True, check=True
    ).stdout
    (image.parent / "SHA512SUMS").write_text(sums)
    before = cloud_image().stat()
    key = lab.root / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    page = "docs/cloud-images.md"
    *tasks, remove = tasks_of(page)
    serve = functools.partial(Quiet, directory=str(lab.root / "mirror"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as mirror:
        threading.Thread(target=mirror.serve_forever, daemon=True).start()
        play(
            lab,
            [page],
            tasks,
            images=str(lab.root / "state/assets/images"),
            mirror=f"http://127.0.0.1:{mirror.server_port}",
            port=str(port),
            key=key.with_suffix(".pub").read_text().strip(),
        )
        mirror.shutdown()
    # What is published leads to the guest's ssh server, and there is nothing left to do.
    assert not lab.run("web-1", wait_for={"ssh": True, "timeout": 300})["changed"]
    look = "hostname; df --output=size -BM / | tail -n1; ip -o -4 address show eth0; ls -d /sys/firmware/*"
    ssh = [
        "ssh",
        "-i",
        str(key),
        "-p",
        str(port),
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]
    done = subprocess.run([*ssh, "debian@127.0.0.1", look], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name, size, address, firmware = done.stdout.split("\n", 3)
    assert name == "web-1"
    # The image has a root partition of 1100 MiB, which cloud-init has grown to the end of the disk.
    assert 3700 < int(size.strip(" M")) < 4096
    assert " 10.0.2.15/24 " in address
    assert "/sys/firmware/efi" not in firmware
    after = cloud_image().stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    play(lab, [], [remove])


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *_: object) -> None:
        pass


def test_the_page_about_qemu(lab: QemuLab, root_image: pathlib.Path) -> None:
    try:
        arm = ForeignGuest("aarch64")
    except NoGuest as reason:
        pytest.skip(str(reason))
    lab.root.chmod(0o711)
    shutil.copyfile(root_image, lab.root / "root.ext4")
    guest = {name: shutil.copyfile(getattr(lab.assets, name), lab.root / name) for name in ("kernel", "initrd")}
    lab.ids.update({"arm-1", "web-1", "web-2"})
    files = {name: str(path) for name, path in guest.items()}
    tasks = tasks_of("docs/qemu.md")
    play(lab, ["docs/qemu.md"], tasks, arm_kernel=str(arm.kernel), arm_initrd=str(arm.initrd), user="nobody", **files)
    for sandbox in sorted(lab.ids):
        lab.run(id=sandbox, wait_for={"console": "kata-guest: ready", "timeout": 120})
    assert pwd.getpwuid(os.stat(f"/proc/{lab.facts('web-2')['pid']}").st_uid).pw_name == "nobody"


def readme_commands() -> list[str]:
    """The single commands of the README about the sandbox demo-1."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^    (ansible localhost -m .*)$", text, re.MULTILINE)


def test_the_commands_of_the_readme(lab: QemuLab) -> None:
    """They run with the collection from its tarball, in a namespace with empty default directories.

    The README's first command there, a playbook that installs packages and starts demo-1, is run by test_tarball.py.
    """
    assert os.geteuid() == 0
    collections, work = lab.root / "collections", lab.root / "work"
    work.mkdir()
    (work / "ansible.cfg").write_text("[defaults]\n")
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(work / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_HOME": str(work),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
    }
    build = ["ansible-galaxy", "collection", "build", str(ROOT), "--output-path", str(work)]
    subprocess.run(build, env=environment, check=True, stdout=subprocess.DEVNULL)
    (tarball,) = work.glob("kata-hypervisor-*.tar.gz")
    install = ["ansible-galaxy", "collection", "install", "--offline", str(tarball), "-p", str(collections)]
    subprocess.run(install, env=environment, check=True, stdout=subprocess.DEVNULL)

    options = {
        "id": "demo-1",
        "kernel_path": str(lab.assets.kernel),
        "initrd_path": str(lab.assets.initrd),
        "memory_mb": 256,
        "max_vcpus": 4,
        "accelerator": "tcg",
        "supervisor": "none",
        "wait_for": "console: kata-guest: ready",
    }
    create = f"ansible localhost -m kata.hypervisor.kata_sandbox -a {shlex.quote(json.dumps(options))}"
    remove = 'ansible localhost -m kata.hypervisor.kata_sandbox -a "id=demo-1 state=absent stop_timeout=0"'
    commands = readme_commands()
    assert len(commands) >= 4 and "state=absent" in commands[-1]
    script = [
        "set -e",
        f"trap '{remove} >&2' EXIT",
        *(
            f"mkdir -p {path}; mount -t tmpfs -o mode=0755 tmpfs {path}"
            for path in ("/var/lib/kata-hypervisor", "/run/kata-hypervisor")
        ),
        *(f"echo '== {number}'; {command}" for number, command in enumerate([create, *commands])),
        'test -z "$(ls /var/lib/kata-hypervisor/sandboxes)"',
    ]
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", "\n".join(script)],
        cwd=work,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = re.split(r"^== \d+\n", done.stdout, flags=re.MULTILINE)[2:]
    for command, output in zip(commands, parts):
        assert ("CHANGED" in output) == ("_info" not in command), f"{command}\n{output}"


def test_the_page_about_networks(tmp_path: pathlib.Path) -> None:
    """The page's tasks run on a host that is a network namespace, so this machine's network does not change."""
    with network_lab(tmp_path) as net:
        before = net.host_state()
        page = "docs/networks.md"
        tasks = tasks_of(page)
        playbook = tmp_path / "page.yml"
        directories = {"state_dir": net.state_root}
        content = {
            "hosts": "localhost",
            "gather_facts": False,
            "module_defaults": {"group/kata.hypervisor.kata": directories},
            "tasks": [task.content for task in tasks],
        }
        playbook.write_text(yaml.safe_dump([content], sort_keys=False), encoding="utf-8")
        argv = [str(BIN / "ansible-playbook"), "-v", "-c", "local", str(playbook)]
        done = net.on_host(
            lambda: subprocess.run(
                argv,
                cwd=ROOT,
                env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        )
        assert done.returncode == 0, done.stdout
        assert f"ok={len(tasks)} changed={sum(task.changes for task in tasks)}" in re.sub(r" +", " ", done.stdout)
        assert all(action in done.stdout for actions in shown_actions(page) for action in actions)
        assert net.host_state() == before
