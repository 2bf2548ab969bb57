# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same work through community.libvirt, through virsh and through our modules, each as Ansible tasks on this host.

It starts a libvirtd of its own in a mount namespace, whose directories are in a temporary one, so it needs root. The domains boot the same kernel
and initrd as our sandboxes, in the same QEMU, with TCG.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import time
from typing import Any, Iterator
from xml.sax.saxutils import escape

from tests.bench.playing import ansible, play
from tests.bench.rows import Row
from tests.support.guest_assets import Assets, guest_assets

TITLE = "Beside libvirt: limit is what libvirt takes"
#: Domains, and sandboxes, of the rows about many. 50 take ten minutes a round.
MANY = int(os.environ.get("BENCH_MANY", "50"))
#: What must be installed, and the packages of Debian that have it.
PROGRAMS = {
    "libvirtd": "libvirt-daemon",
    "virtlogd": "libvirt-daemon",
    "virsh": "libvirt-clients",
}
DRIVER = "libvirt-daemon-driver-qemu"
PYTHON = "/usr/bin/python3"
#: A user that libvirt of Debian wants to find.
USER = "libvirt-qemu"
#: The directories that libvirtd has at fixed places.
PLACES = ("/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt", "/run/libvirt")
COMMUNITY = "community.libvirt"
VIRSH = "virsh"
#: Before the number of a task, where several tasks are one step.
PART = " #"

DOMAIN = """<domain type='qemu'><name>{name}</name>
<memory unit='MiB'>1024</memory><currentMemory unit='MiB'>128</currentMemory>
<vcpu current='1'>4</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel><initrd>{initrd}</initrd>
<cmdline>console=ttyS0 quiet</cmdline></os>
<features><acpi/></features><cpu mode='maximum'/>
<devices><emulator>{qemu}</emulator><serial type='file'><source path='{log}'/><target port='0'/></serial>
<memballoon model='none'/></devices></domain>
"""


def missing() -> str:
    """Why this group cannot be measured here; empty if it can."""
    if os.geteuid() != 0:
        return "root starts libvirtd"
    packages = {package for program, package in PROGRAMS.items() if not shutil.which(program)}
    if not list(pathlib.Path("/usr").glob("lib*/**/connection-driver/libvirt_driver_qemu.so")):
        packages.add(DRIVER)
    try:
        pwd.getpwnam(USER)
    except KeyError:
        packages.add("libvirt-daemon-system")
    for module in ("libvirt", "lxml"):
        if subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True, check=False).returncode:
            packages.add(f"python3-{module}")
    wanted = [f"the packages {', '.join(sorted(packages))}"] if packages else []
    try:
        ansible("ansible-doc", "-s", f"{COMMUNITY}.virt")
    except SystemExit:
        wanted.append(f"the collection {COMMUNITY}")
    return f"needs {' and '.join(wanted)}" if wanted else ""


@contextlib.contextmanager
def libvirtd(work: pathlib.Path) -> Iterator[str]:
    """A libvirtd of our own; the URI that reaches it."""
    commands = ["set -e", "mount --make-rprivate /"]
    for place in PLACES:
        own = work / place.strip("/").replace("/", "-")
        own.mkdir()
        commands += [f"mkdir -p {place}", f"mount --bind {own} {place}"]
    etc = work / "etc-libvirt"
    (etc / "qemu.conf").write_text(
        'user = "root"\ngroup = "root"\nsecurity_driver = "none"\nnamespaces = []\ncgroup_controllers = []\n'
    )
    sockets = work / "sockets"
    sockets.mkdir()
    (etc / "libvirtd.conf").write_text(
        f'unix_sock_dir = "{sockets}"\nauth_unix_rw = "none"\nlog_outputs = "3:file:{work}/libvirtd.log"\n'
    )
    commands += [
        f"virtlogd -d -p {work}/virtlogd.pid",
        f"exec libvirtd -f /etc/libvirt/libvirtd.conf -p {work}/libvirtd.pid",
    ]
    daemon = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", "\n".join(commands)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    uri = f"qemu+unix:///system?socket={sockets}/libvirt-sock"
    try:
        while subprocess.run([VIRSH, "-c", uri, "version"], capture_output=True, check=False).returncode:
            if daemon.poll() is not None:
                log = work / "libvirtd.log"
                raise SystemExit(f"libvirtd has ended: {log.read_text()[-2000:] if log.exists() else 'without a log'}")
            time.sleep(0.1)
        yield uri
    finally:
        for name in subprocess.run(
            [VIRSH, "-c", uri, "list", "--name"], capture_output=True, text=True, check=False
        ).stdout.split():
            subprocess.run([VIRSH, "-c", uri, "destroy", name], capture_output=True, check=False)
        daemon.terminate()
        daemon.wait()
        subprocess.run(["pkill", "-F", str(work / "virtlogd.pid")], check=False)


def rows(rounds: int) -> list[Row]:
    """Measure: one sandbox at a time in rounds, then many at once, at most three rounds."""
    assets = guest_assets()
    work = pathlib.Path(tempfile.mkdtemp(prefix="kb-"))
    work.chmod(0o755)
    host = {"ansible_connection": "local", "ansible_python_interpreter": PYTHON}
    try:
        with libvirtd(work) as uri:
            maker = Tasks(work, uri, assets)
            one = steps(play(work, maker.one_at_a_time(rounds), host))
            many = steps(play(work, maker.many_at_once(min(rounds, 3)), host))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    found = []
    for times, start_aim in ((one, 1 / 5), (many, 1 / 10)):
        for key in [key for key in times if key.startswith("ours: ")]:
            step = key.partition(": ")[2]
            for peer in (COMMUNITY, VIRSH):
                theirs = times.get(f"{peer}: {step}")
                if theirs is None:
                    continue
                aim = start_aim if "start" in step and peer == COMMUNITY else 1.0
                found.append(Row(step, times[key], theirs, peer, aim))
    return found


def steps(times: dict[str, list[float]]) -> dict[str, list[float]]:
    """Seconds by step: the tasks of one step are added up."""
    found: dict[str, list[float]] = {}
    for name, values in times.items():
        step = name.partition(PART)[0]
        found[step] = [sum(pair) for pair in zip(found[step], values)] if step in found else values
    return found


class Tasks:
    """The tasks of the three ways. A task's name is the way and the step.

    :param uri: of libvirtd
    """

    def __init__(self, work: pathlib.Path, uri: str, assets: Assets) -> None:
        self.work = work
        self.uri = uri
        self.assets = assets
        self.place = {"state_dir": str(work / "state"), "run_dir": str(work / "run")}
        self.found: list[dict[str, Any]] = []

    def ours(self, step: str, sandbox: str, **options: Any) -> None:
        """A task of kata_sandbox."""
        module = {"id": sandbox, **self.place, **options}
        self.found.append({"name": f"ours: {step}", "kata.hypervisor.kata_sandbox": module})

    def community(self, step: str, tasks: list[dict[str, Any]], loop: list[str] | None = None) -> None:
        """Tasks of community.libvirt that together are a step."""
        for number, options in enumerate(tasks):
            task = {"name": f"{COMMUNITY}: {step}{PART}{number}", f"{COMMUNITY}.virt": {"uri": self.uri, **options}}
            self.found.append({**task, "loop": loop} if loop else task)

    def virsh(self, step: str, *commands: str, names: str = "") -> None:
        """A task that runs virsh for one domain or for several, one after another."""
        words = " && ".join(f"virsh -q -c '{self.uri}' {command}" for command in commands)
        script = f"set -e; for name in {names}; do {words}; done" if names else words
        self.found.append({"name": f"{VIRSH}: {step}", "ansible.builtin.shell": script})

    def boot(self) -> dict[str, Any]:
        """The options of a sandbox that is like a domain."""
        return {
            "kernel_path": str(self.assets.kernel),
            "initrd_path": str(self.assets.initrd),
            "memory_mb": 128,
            "max_memory_mb": 1024,
            "max_vcpus": 4,
            "accelerator": "tcg",
        }

    def domain(self, name: str) -> str:
        """The XML of a domain."""
        return DOMAIN.format(
            name=name,
            kernel=escape(str(self.assets.kernel)),
            initrd=escape(str(self.assets.initrd)),
            qemu=shutil.which("qemu-system-x86_64"),
            log=self.work / f"{name}.log",
        )

    def one_at_a_time(self, rounds: int) -> list[dict[str, Any]]:
        """Each step of a sandbox's life, in each of the ways."""
        self.found = []
        xml = self.work / "one.xml"
        xml.write_text(self.domain("virsh-one"))
        for number in range(rounds):
            box, name = f"box-{number}", f"lv-{number}"
            self.ours("define and start", box, state="started", **self.boot())
            self.community(
                "define and start",
                [{"command": "define", "xml": self.domain(name)}, {"name": name, "state": "running"}],
            )
            self.virsh("define and start", f"define {xml}", "start virsh-one")
            self.ours("no-op", box, state="started")
            self.community("no-op", [{"name": name, "state": "running"}])
            self.virsh("no-op", "domstate virsh-one")
            # community.libvirt has no word for the number of vCPUs.
            self.ours("vCPUs 1 to 2", box, vcpus=2)
            self.virsh("vCPUs 1 to 2", "setvcpus virsh-one 2 --live")
            self.ours("pause", box, state="paused")
            self.community("pause", [{"name": name, "state": "paused"}])
            self.virsh("pause", "suspend virsh-one")
            self.ours("resume", box, state="started")
            self.community("resume", [{"name": name, "state": "running"}])
            self.virsh("resume", "resume virsh-one")
            self.ours("remove", box, state="absent", stop_timeout=0)
            self.community("remove", [{"name": name, "state": "destroyed"}, {"name": name, "command": "undefine"}])
            self.virsh("remove", "destroy virsh-one", "undefine virsh-one")
        return self.found

    def many_at_once(self, rounds: int) -> list[dict[str, Any]]:
        """Starting, leaving alone and removing many, in each of the ways."""
        self.found = []
        names = [f"many-{number}" for number in range(MANY)]
        for name in names:
            (self.work / f"{name}.xml").write_text(self.domain(name))
        define = {"command": "define", "xml": f"{{{{ lookup('file', '{self.work}/' ~ item ~ '.xml') }}}}"}

        def ours(step: str, **options: Any) -> None:
            module = {**self.place, "sandboxes": [{"id": name, **options} for name in names]}
            self.found.append({"name": f"ours: {MANY}, {step}", "kata.hypervisor.kata_sandboxes": module})

        for _round in range(rounds):
            ours("define and start", state="started", **self.boot())
            ours("no-op", state="started")
            ours("remove", state="absent", stop_timeout=0)
            step = f"{MANY}, define and start"
            self.community(step, [define, {"name": "{{ item }}", "state": "running"}], names)
            self.community(f"{MANY}, no-op", [{"name": "{{ item }}", "state": "running"}], names)
            self.community(
                f"{MANY}, remove",
                [{"name": "{{ item }}", "state": "destroyed"}, {"name": "{{ item }}", "command": "undefine"}],
                names,
            )
            every = " ".join(names)
            self.virsh(step, f"define {self.work}/$name.xml", "start $name", names=every)
            self.virsh(f"{MANY}, no-op", "domstate $name", names=every)
            self.virsh(f"{MANY}, remove", "destroy $name", "undefine $name", names=every)
        return self.found
