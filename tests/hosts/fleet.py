# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away Debian hosts with a systemd, a root file system and an sshd of their own, for tests that provision and reboot.

    fleet.py up DIRECTORY NAME...     make the hosts, wait until each answers by ssh, write DIRECTORY/inventory.yml
    fleet.py down DIRECTORY           end them and remove the directory
    fleet.py base                     make the base file system that all hosts share (done by "up" when it is missing)

A host is systemd-nspawn over an overlay: what it writes lies in DIRECTORY/NAME, and the base stays as it is. It has a network of its own
(see fleet_network.py), and is reached by ssh at a loopback address of this machine. "reboot" inside starts it again with its files, an empty
/run and a new network. Needs root and Debian's packages systemd-container, mmdebstrap, iproute2 and openssh-client. Where the base is kept:
FLEET_CACHE, else ~/.cache/kata-hypervisor/hosts. Its Debian release: HOST_RELEASE, else bookworm.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import debian_base
import fleet_network
from debian_base import CACHE, FleetError, run

PACKAGES = "systemd,systemd-sysv,dbus,openssh-server,python3,python3-apt,iproute2,kmod,ca-certificates"
RELEASE = os.environ.get("HOST_RELEASE") or "bookworm"
BASE = CACHE / f"debian-{RELEASE}"
#: What systemd-nspawn ends with when the host inside asked for a reboot.
REBOOT = 133
READY_SECONDS = 60
STOP_SECONDS = 20


def make_base() -> None:
    """The file system below all hosts, once on a machine."""

    def finish(root: pathlib.Path) -> None:
        # What reaches the packages from here reaches them from a host: certificates and apt's way to the archive.
        shutil.copytree("/etc/apt/apt.conf.d", root / "etc/apt/apt.conf.d", dirs_exist_ok=True)
        (root / "etc/ssh/sshd_config.d/fleet.conf").write_text("UseDNS no\nPermitRootLogin prohibit-password\n")

    # The sources of this machine name its own release. mmdebstrap knows those of the others.
    own = pathlib.Path("/etc/apt/sources.list.d/debian.sources")
    sources = [str(own)] if own.exists() and RELEASE in own.read_text() else []
    debian_base.make(BASE.name, RELEASE, PACKAGES, sources, finish)


def up(directory: pathlib.Path, names: list[str]) -> None:
    """Make hosts and wait for them; on failure nothing of them stays."""
    make_base()
    directory.mkdir(parents=True, exist_ok=True)
    if any((directory / name).exists() for name in names):
        raise FleetError(f"{directory} already has hosts of these names; remove them with: fleet.py down {directory}")
    key = directory / "key"
    if not key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    try:
        fleet_network.make_world(directory)
        for name in names:
            start(directory / name, free_address(directory), key.with_suffix(".pub").read_text())
        for name in names:
            wait_ready(directory / name, key)
    except BaseException:
        down(directory)
        raise
    write_inventory(directory)


def free_address(directory: pathlib.Path) -> str:
    """A loopback address that no host of this or another fleet has taken: a directory in the cache reserves it."""
    reserved = CACHE / "addresses"
    reserved.mkdir(parents=True, exist_ok=True)
    for number in range(2, 65000):
        address = f"127.90.{number // 250}.{number % 250 + 2}"
        place = reserved / address
        if place.is_symlink() and not os.path.isdir(os.readlink(place)):
            place.unlink(missing_ok=True)
        try:
            place.symlink_to(directory)
        except FileExistsError:
            continue
        return address
    raise FleetError("no loopback address is free")


def free_number(directory: pathlib.Path) -> int:
    """The first number that no host of the fleet has; 1 is the rest of the world."""
    used = {int(path.read_text()) for path in directory.glob("*/number")}
    return next(number for number in range(2, 255) if number not in used)


def start(host: pathlib.Path, address: str, public_key: str) -> None:
    """Lay the host's file system over the base, and boot it."""
    for part in ("upper", "work", "root"):
        (host / part).mkdir(parents=True)
    (host / "address").write_text(address)
    (host / "number").write_text(str(free_number(host.parent)))
    root = host / "root"
    run(
        "mount",
        "-t",
        "overlay",
        "overlay",
        "-o",
        f"lowerdir={BASE},upperdir={host}/upper,workdir={host}/work",
        str(root),
    )
    ssh = root / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    (ssh / "authorized_keys").write_text(public_key)
    (root / "etc/hostname").write_text(f"{host.name}\n")
    # No name server answers it, so a search for its own name would wait 20 seconds. Facts are gathered with one.
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n")
    # Who loses power here loses the whole host, so dpkg need not wait for a disk.
    (root / "etc/dpkg/dpkg.cfg.d/fleet").write_text("force-unsafe-io\n")
    proxy = f"http://{fleet_network.WORLD}:{fleet_network.PROXY_PORT}"
    # The first file in the order of apt: a test that replaces the proxy has a later one.
    (root / "etc/apt/apt.conf.d/00fleet").write_text(
        f'Acquire::http::Proxy "{proxy}";\nAcquire::https::Proxy "{proxy}";\n'
    )
    with open(host / "console.log", "wb") as console:
        keeper = subprocess.Popen(
            [sys.executable, __file__, "keep", str(host)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
    (host / "pid").write_text(str(keeper.pid))
    namespace = fleet_network.namespace_of(host.parent, host.name)
    fleet_network.start(host / "relay.pid", host / "relay.log", "ssh", address, namespace)


def control_groups(name: str) -> list[pathlib.Path]:
    """Cgroups of this name below those that this process is in, made and entered. Hosts that shared one would have each other's processes in their units."""
    mounted = {}
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        place, _dash, kind = line.partition(" - ")
        if kind.startswith("cgroup"):
            root, mount = place.split()[3:5]
            mounted["" if kind.startswith("cgroup2") else mount.rpartition("/")[2]] = (root, pathlib.Path(mount))
    made = []
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _number, controllers, path = line.split(":", 2)
        known = mounted.get(controllers.removeprefix("name="))
        if known is None:
            continue
        group = known[1] / os.path.relpath(path, known[0]) / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if controllers == "cpuset":
                (group / setting).write_text((group.parent / setting).read_text())
        (group / "cgroup.procs").write_text(str(os.getpid()))
        made.append(group)
    return made


def remove_group(group: pathlib.Path, deadline: float) -> None:
    """Remove a cgroup with all below it; its processes are gone or about to go."""
    for folder, _folders, _files in os.walk(group, topdown=False):
        while True:
            try:
                os.rmdir(folder)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise FleetError(f"the cgroup {folder} cannot be removed: {error}") from error
                time.sleep(0.05)


def keep(host: pathlib.Path) -> int:
    """Run the host until it powers off; boot it again whenever it reboots. A TERM signal powers it off."""
    (host / "cgroups").write_text("\n".join(map(str, control_groups(f"fleet-{host.name}-{os.getpid()}"))))
    argv = [
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--boot",
        "--capability=all",
        "--resolv-conf=bind-host",
    ]
    argv += [
        "-D",
        str(host / "root"),
        "-M",
        f"{host.name}-{os.getpid()}",
        f"--hostname={host.name}",
        "--bind-ro=/etc/ssl/certs",
    ]
    argv += debian_base.bound_devices()
    argv.append(f"--network-namespace-path=/run/netns/{fleet_network.namespace_of(host.parent, host.name)}")
    inside: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, lambda *_: [process.send_signal(signal.SIGTERM) for process in inside])
    # The host may set the kernel's settings of its network, which are those of its namespace, and no other ones.
    environment = {**os.environ, "SYSTEMD_NSPAWN_TMPFS_TMP": "0", "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}
    while True:
        # Nothing of a host's network survives a reboot.
        fleet_network.make_host(host)
        inside[:] = [subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=environment)]
        (host / "nspawn.pid").write_text(str(inside[0].pid))
        if inside[0].wait() != REBOOT:
            return 0


def wait_ready(host: pathlib.Path, key: pathlib.Path) -> None:
    """Wait until the host has booted, asked by ssh."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if not alive(int((host / "pid").read_text())):
            break
        answer = subprocess.run(
            ["ssh", *ssh_options(key), f"root@{(host / 'address').read_text()}", "systemctl", "is-system-running"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        if answer.stdout.strip() in ("running", "degraded"):
            return
        time.sleep(0.2)
    log = (host / "console.log").read_text(errors="replace")
    raise FleetError(f"{host.name} did not come up in {READY_SECONDS} s. Its console:\n{log[-3000:]}")


def down(directory: pathlib.Path) -> None:
    """End all hosts of a directory and remove it; also what is left of a fleet that was killed."""
    hosts = [path for path in directory.iterdir() if (path / "root").is_dir()] if directory.is_dir() else []
    for host in hosts:
        signal_to(host / "pid", signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for host in hosts:
        while time.monotonic() < deadline and (running(host / "pid") or running(host / "nspawn.pid")):
            time.sleep(0.05)
        for file in ("pid", "nspawn.pid"):
            signal_to(host / file, signal.SIGKILL)
    for host in hosts:
        fleet_network.end(host / "relay.pid")
        fleet_network.remove_host(host)
        while os.path.ismount(host / "root"):
            if subprocess.run(["umount", str(host / "root")], stderr=subprocess.DEVNULL, check=False).returncode:
                time.sleep(0.1)
                if time.monotonic() > deadline + STOP_SECONDS:
                    raise FleetError(f"{host / 'root'} cannot be unmounted")
        groups = (host / "cgroups").read_text().splitlines() if (host / "cgroups").exists() else []
        for group in groups:
            remove_group(pathlib.Path(group), deadline + STOP_SECONDS)
        (CACHE / "addresses" / (host / "address").read_text()).unlink(missing_ok=True)
    if directory.is_dir():
        fleet_network.remove_world(directory)
        shutil.rmtree(directory)


def write_inventory(directory: pathlib.Path) -> None:
    """An inventory of all hosts of the directory, reached by ssh; a file for paramiko needs only another connection."""
    key = directory / "key"
    hosts = {path.parent.name: {"ansible_host": path.read_text()} for path in sorted(directory.glob("*/address"))}
    variables = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": " ".join(ssh_options(key)[2:]),
        "ansible_paramiko_host_key_checking": False,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    inventory = {"all": {"hosts": hosts, "vars": variables}}
    # JSON is YAML, and needs nothing that is not in the standard library.
    (directory / "inventory.yml").write_text(json.dumps(inventory, indent=2) + "\n")


def ssh_options(key: pathlib.Path) -> list[str]:
    """What every ssh call to a host says."""
    known = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    return ["-i", str(key), *known, "-o", "ConnectTimeout=5"]


def alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def running(file: pathlib.Path) -> bool:
    """Whether the process that a file names is there."""
    return file.exists() and alive(int(file.read_text()))


def signal_to(file: pathlib.Path, number: signal.Signals) -> None:
    """Send a signal to the process that a file names, if it is there."""
    if running(file):
        os.kill(int(file.read_text()), number)


def main(arguments: list[str]) -> int:
    """Carry out one command."""
    try:
        if arguments == ["base"]:
            make_base()
        elif len(arguments) > 2 and arguments[0] == "up":
            up(pathlib.Path(arguments[1]).absolute(), arguments[2:])
        elif len(arguments) == 2 and arguments[0] == "down":
            down(pathlib.Path(arguments[1]).absolute())
        elif len(arguments) == 2 and arguments[0] == "keep":
            return keep(pathlib.Path(arguments[1]))
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except FleetError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
