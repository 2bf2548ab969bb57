# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's root file system: a distribution's packages in an ext4 image, made without mounting anything.

`mmdebstrap` unpacks and sets up the packages, `mke2fs -d` puts the tree into an image. The same packages, users and files give the same bytes:
times, identifiers and the order of files are fixed, and what is only made when a system first boots is left to the guest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from typing import Any, Mapping

from ..errors import AssetError, ConfigError, HostError
from ..guest.identity import AUTHORIZED_KEYS, SCRIPT, SCRIPT_NAME
from ..host.atomic_files import make_directories
from ..host.digests import file_digest
from ..host.programs import run
from ..host.units import MIB
from ..untrusted.answers import brief
from .initrd import ExtraFile
from .kept_packages import KeptPackages
from .sources import copy_file

#: No file is newer than this (2026-01-01, UTC), and the file system was made then.
EPOCH = 1767225600
BUILD_SECONDS = 3600
BLOCK = 4096

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~=/_-]*")

#: Sandboxes made from one image must not share host keys, and the root file system may be read-only: keys are made at each boot, in memory.
_SSHD = f"""\
HostKey /run/ssh-host-keys/ssh_host_ed25519_key
AuthorizedKeysFile .ssh/authorized_keys {AUTHORIZED_KEYS}
PermitRootLogin prohibit-password
UseDNS no
"""
_SSH_KEYS = """\
[Unit]
Description=Host keys of this sandbox
Before=ssh.service ssh.socket

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/mkdir -p /run/ssh-host-keys
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /run/ssh-host-keys/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target
"""
_IDENTITY_UNIT = f"""\
[Unit]
Description=Apply the name, the keys and the addresses of this sandbox
After=systemd-udev-trigger.service
Before=network.target ssh.service ssh.socket kata-ready.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/{SCRIPT_NAME} apply

[Install]
WantedBy=multi-user.target
"""
_USER_SCRIPT_UNIT = f"""\
[Unit]
Description=Run the user script of this sandbox
After=multi-user.target

[Service]
Type=oneshot
RemainAfterExit=yes
StandardOutput=tty
StandardError=inherit
TTYPath=/dev/console
ExecStart=/usr/local/sbin/{SCRIPT_NAME} run

[Install]
WantedBy=multi-user.target
"""
_READY_UNIT = """\
[Unit]
Description=Tell on the console that this sandbox is ready
After=multi-user.target

[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/console
ExecStart=/usr/local/sbin/kata-ready

[Install]
WantedBy=multi-user.target
"""
_READY = """\
#!/bin/sh
read -r _ memtotal_kb _ </proc/meminfo
while read -r _ place kind options _; do
    [ "$place" = / ] && root="$kind,${options%%,*}"
done </proc/mounts
echo "kata-guest: ready nproc=$(nproc) memtotal_kb=$memtotal_kb root=$root"
"""
#: The agent of guests with a vsock; where the VM has a port for it, the package's own unit starts it.
_AGENT_UNIT = """\
[Unit]
Description=QEMU guest agent at the vsock
ConditionPathExistsGlob=/sys/bus/virtio/drivers/vmw_vsock_virtio_transport/virtio*
ConditionPathExists=!/dev/virtio-ports/org.qemu.guest_agent.0

[Service]
ExecStart=/usr/sbin/qemu-ga -m vsock-listen -p 4294967295:1022
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""
#: With this module, any user of the guest could connect to its own vsock ports, the agent's among them.
_NO_LOOPBACK = "install vsock_loopback /bin/false\n"
_FSTAB = "tmpfs /tmp tmpfs mode=1777,nosuid,nodev 0 0\n"


@dataclasses.dataclass(frozen=True)
class User:
    """A user who may log in to the guest, with keys and never with a password."""

    name: str
    ssh_keys: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    shell: str = "/bin/bash"

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> User:
        """From a task's suboptions.

        :raises ConfigError: a name, a key or the shell cannot be one
        """
        user = cls(
            options["name"],
            tuple(options.get("ssh_keys") or ()),
            tuple(options.get("groups") or ()),
            options.get("shell") or cls.shell,
        )
        for word in (user.name, *user.groups):
            if not _NAME.fullmatch(word):
                raise ConfigError("must be the name of a user or a group", option="users", wanted=word)
        for key in user.ssh_keys:
            if "\n" in key.strip() or len(key.split()) < 2:
                raise ConfigError("must be a public key as ssh-keygen writes it", option="users", wanted=key)
        if not user.shell.startswith("/"):
            raise ConfigError("a shell must be an absolute path", option="users", wanted=user.shell)
        return user


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that determines the content of an image.

    :param sources: files of the host with apt's sources, or none for those that the host has
    :param size_mb: size of the image in MiB; 0 for as large as needed
    :param serial: any text; another text builds the image again, with the packages of that day
    """

    suite: str
    packages: tuple[str, ...]
    sources: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    files: tuple[ExtraFile, ...] = ()
    hostname: str = "sandbox"
    size_mb: int = 0
    serial: str = ""

    def checked(self) -> Recipe:
        """Itself.

        :raises ConfigError: a name cannot be one, or the size is none
        """
        for option, words in (("suite", [self.suite]), ("packages", self.packages)):
            for word in words:
                if not _WORD.fullmatch(word):
                    raise ConfigError("must be a name", option=option, wanted=word)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", self.hostname):
            raise ConfigError("must be a host name", option="hostname", wanted=self.hostname)
        if self.size_mb < 0:
            raise ConfigError("must be a size", option="size_mb", wanted=self.size_mb)
        return self

    def as_dict(self) -> dict[str, Any]:
        """The recipe with the digests of the files that go in.

        :raises AssetError: a file cannot be read
        """
        recipe: dict[str, Any] = {
            **dataclasses.asdict(self),
            "users": [dataclasses.asdict(user) for user in self.users],
        }
        recipe["files"] = [[file.dest, file.mode, file_digest(file.src)] for file in self.files]
        # A version of the collection with other scripts and units builds the image again.
        own = (
            _AGENT_UNIT,
            _NO_LOOPBACK,
            _FSTAB,
            _READY,
            _READY_UNIT,
            _IDENTITY_UNIT,
            _USER_SCRIPT_UNIT,
            _SSHD,
            _SSH_KEYS,
            SCRIPT,
        )
        recipe["scripts"] = hashlib.sha256("".join(own).encode()).hexdigest()
        # Tuples become lists, as they are when they are read again.
        return {key: _as_lists(value) for key, value in recipe.items()}


def _as_lists(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_as_lists(entry) for entry in value]
    return {key: _as_lists(entry) for key, entry in value.items()} if isinstance(value, dict) else value


def check_programs() -> None:
    """Check that the host has the programs that build an image.

    :raises HostError: a program is missing
    """
    for program, package in (
        ("mmdebstrap", "mmdebstrap"),
        ("mke2fs", "e2fsprogs"),
        ("debugfs", "e2fsprogs"),
        ("chroot", "coreutils"),
        ("zstd", "zstd"),
    ):
        if shutil.which(program) is None:
            raise HostError(f"{program} must be installed", fix=f"Install the package {package}.")


def build(recipe: Recipe, work: str, digests: Mapping[str, str], kept: KeptPackages) -> tuple[str, dict[str, Any]]:
    """Make the image in a directory; its path, and what is in it.

    :param digests: what the recipe's files had when they were looked at, by their places in the image
    :param kept: the packages of the image that this one replaces
    :raises AssetError: one of them has changed since
    :raises HostError: a program failed
    :raises ConfigError: the image is too small for it
    """
    check_programs()
    tree = os.path.join(work, "tree")

    def fetch(archive: str) -> None:
        include = ["--include=" + ",".join(recipe.packages)] if recipe.packages else []
        options = ["--quiet", "--mode=root", "--variant=minbase", "--format=tar", *include, *_proxy_options(work)]
        _run("mmdebstrap", [*options, recipe.suite, archive, *_sources(recipe)])

    about = kept.unpack(tree, packages_digest(recipe), fetch, _run)
    about["packages"] = _installed(tree)
    _furnish(tree, recipe, digests)
    _forget(tree)
    _settle_times(tree)
    image = _make_image(tree, recipe, work)
    kept.keep(tree)
    return image, about


def packages_digest(recipe: Recipe) -> str:
    """A digest of everything that determines which packages an image has.

    :raises AssetError: apt's sources cannot be read
    """
    sources = [file_digest(path) for path in _sources(recipe)]
    chosen_by = [recipe.suite, recipe.packages, sources, recipe.serial]
    return hashlib.sha256(json.dumps(chosen_by).encode()).hexdigest()


def _sources(recipe: Recipe) -> list[str]:
    """Files with apt's sources."""
    return list(recipe.sources) or _host_sources()


#: A line of `apt-config dump` about a proxy.
PROXY = re.compile(r"Acquire::\w+::Proxy[\w:.-]* ")


def _host_sources() -> list[str]:
    """Apt's sources on this host."""
    folder = "/etc/apt/sources.list.d"
    found = [os.path.join(folder, name) for name in sorted(os.listdir(folder))] if os.path.isdir(folder) else []
    return [
        path
        for path in ["/etc/apt/sources.list", *found]
        if os.path.isfile(path) and path.endswith((".list", ".sources"))
    ]


def _proxy_options(work: str) -> list[str]:
    """Options that give mmdebstrap the proxies of this host's apt, whose configuration it does not read. They can have a password, so they are in a file."""
    lines = [line for line in _run("apt-config", ["dump"]).splitlines() if PROXY.match(line)]
    if not lines:
        return []
    path = os.path.join(work, "proxies.conf")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")
    return [f"--aptopt={path}"]


def _installed(tree: str) -> list[str]:
    answer = _run("dpkg-query", [f"--root={tree}", "--show", "--showformat=${Package}=${Version}\\n"])
    return sorted(answer.split())


def _furnish(tree: str, recipe: Recipe, digests: Mapping[str, str]) -> None:
    """Users, keys, units and files."""
    for user in recipe.users:
        if user.name != "root":
            groups = ["--groups", ",".join(user.groups)] if user.groups else []
            # Distributions have groups of such names as operator.
            own = re.search(rf"^{user.name}:", _read(tree, "etc/group"), re.MULTILINE)
            group = ["--gid", user.name] if own else ["--user-group"]
            _run("chroot", [tree, "useradd", "--create-home", "--shell", user.shell, *group, *groups, user.name])
        _authorize(tree, user)
    _put(tree, "etc/hostname", f"{recipe.hostname}\n")
    _put(tree, "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {recipe.hostname}\n::1 localhost\n")
    _put(tree, "etc/fstab", _FSTAB)
    _put(tree, "usr/local/sbin/kata-ready", _READY, 0o755)
    if os.path.isdir(os.path.join(tree, "lib/systemd/system")):
        _enable(tree, "kata-ready.service", _READY_UNIT)
        if not os.path.lexists(os.path.join(tree, "usr/bin/cloud-init")):
            _put(tree, f"usr/local/sbin/{SCRIPT_NAME}", SCRIPT, 0o755)
            _enable(tree, "kata-identity.service", _IDENTITY_UNIT)
            _enable(tree, "kata-user-script.service", _USER_SCRIPT_UNIT)
    _put(tree, "etc/modprobe.d/kata-guest.conf", _NO_LOOPBACK)
    if os.path.isdir(os.path.join(tree, "lib/systemd/system")) and os.path.lexists(
        os.path.join(tree, "usr/sbin/qemu-ga")
    ):
        _enable(tree, "kata-agent.service", _AGENT_UNIT)
    if os.path.isdir(os.path.join(tree, "etc/ssh/sshd_config.d")):
        _put(tree, "etc/ssh/sshd_config.d/sandbox.conf", _SSHD)
        _enable(tree, "ssh-host-keys.service", _SSH_KEYS)
    for file in recipe.files:
        path = _below(tree, file.dest.lstrip("/"))
        make_directories(os.path.dirname(path))
        if os.path.lexists(path):
            os.unlink(path)  # A link there leads elsewhere.
        copy_file(file.src, path)
        os.chmod(path, file.mode)
        if file_digest(path) != digests[file.dest]:
            raise AssetError(
                "the file must not be changed while it is read",
                option="files",
                wanted=file.src,
                fix="Nothing was changed. Run the task again.",
            )


def _authorize(tree: str, user: User) -> None:
    if not user.ssh_keys:
        return
    for line in _read(tree, "etc/passwd").splitlines():
        fields = line.split(":")
        if fields[0] == user.name:
            home, owner, group = fields[5].lstrip("/"), int(fields[2]), int(fields[3])
            _put(tree, f"{home}/.ssh/authorized_keys", "".join(f"{key.strip()}\n" for key in user.ssh_keys), 0o600)
            os.chmod(_below(tree, f"{home}/.ssh"), 0o700)
            for path in (f"{home}/.ssh", f"{home}/.ssh/authorized_keys"):
                os.chown(_below(tree, path), owner, group)
            return
    raise ConfigError("the image has no such user", option="users", wanted=user.name)


def _enable(tree: str, unit: str, text: str) -> None:
    _put(tree, f"etc/systemd/system/{unit}", text)
    link = _below(tree, f"etc/systemd/system/multi-user.target.wants/{unit}")
    make_directories(os.path.dirname(link))
    os.symlink(f"/etc/systemd/system/{unit}", link)


def _forget(tree: str) -> None:
    """Remove what differs each time and what each guest must have of its own."""
    for folder in ("dev", "run", "tmp", "var/cache/apt", "var/lib/apt/lists", "var/log"):
        path = _below(tree, folder)
        for name in os.listdir(path) if os.path.isdir(path) else []:
            full = os.path.join(path, name)
            if os.path.isdir(full) and not os.path.islink(full):
                shutil.rmtree(full)
            else:
                os.unlink(full)
    ssh = _below(tree, "etc/ssh")
    for name in os.listdir(ssh) if os.path.isdir(ssh) else []:
        if name.startswith("ssh_host_"):
            os.unlink(os.path.join(ssh, name))
    for path in (
        "var/lib/dbus/machine-id",
        "var/lib/systemd/random-seed",
        "var/cache/ldconfig/aux-cache",
        "etc/apt/apt.conf.d/99mmdebstrap",
    ):
        if os.path.lexists(_below(tree, path)):
            os.unlink(_below(tree, path))
    # Empty, so that systemd makes one for each boot.
    _put(tree, "etc/machine-id", "")
    # What the host uses to resolve names means nothing to a guest.
    _put(tree, "etc/resolv.conf", "")


def _settle_times(tree: str) -> None:
    for folder, folders, files in os.walk(tree, topdown=False):
        for name in [*files, *folders, "."]:
            path = os.path.join(folder, name)
            os.utime(path, (EPOCH, min(int(os.lstat(path).st_mtime), EPOCH)), follow_symlinks=False)


def _make_image(tree: str, recipe: Recipe, work: str) -> str:
    image = os.path.join(work, "image")
    needed = _needed_mib(tree)
    size = recipe.size_mb or needed
    identifier = uuid.uuid5(uuid.NAMESPACE_URL, f"kata.hypervisor:{recipe.suite}:{recipe.hostname}")
    extended = f"hash_seed={identifier},root_owner=0:0,lazy_itable_init=0"
    options = [
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        str(BLOCK),
        "-m",
        "0",
        "-O",
        "^has_journal",
        "-U",
        str(identifier),
        "-E",
        extended,
        "-L",
        "root",
    ]
    try:
        _run("mke2fs", [*options, "-d", tree, image, f"{size}M"])
    except HostError as problem:
        if recipe.size_mb and recipe.size_mb < needed:
            raise ConfigError(
                "the image must be larger: its content does not fit",
                option="size_mb",
                wanted=size,
                answer=problem.answer,
                fix=f"About {needed} are needed.",
            ) from problem
        raise
    _settle_inodes(image, work)
    _run("e2fsck", ["-f", "-n", image])
    return image


def _needed_mib(tree: str) -> int:
    """What the tree takes in an image: its blocks, its inodes, and the file system's own."""
    blocks, inodes = 0, 0
    for folder, folders, files in os.walk(tree):
        for name in [*files, *folders]:
            inodes += 1
            status = os.lstat(os.path.join(folder, name))
            if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                blocks += -(-status.st_size // BLOCK)
    return ((blocks * BLOCK + inodes * 512) * 11 // 10 // MIB + 16 + 3) // 4 * 4


def _settle_inodes(image: str, work: str) -> None:
    """The time at which an inode was changed is now, whatever the tree says (mke2fs before 1.47.1)."""
    answer = _run("debugfs", ["-R", "show_super_stats -h", image])
    numbers = [
        re.search(rf"^{name}: +([0-9]{{1,10}})$", answer, re.MULTILINE) for name in ("Inode count", "Free inodes")
    ]
    if not numbers[0] or not numbers[1]:
        raise HostError("debugfs must report how many inodes the image has", wanted=image, answer=brief(answer))
    count, free = int(numbers[0][1]), int(numbers[1][1])
    commands = os.path.join(work, "times")
    with open(commands, "w", encoding="ascii") as stream:
        for number in [2, *range(11, count - free + 1)]:
            for field in ("ctime", "atime", "crtime"):
                stream.write(f"set_inode_field <{number}> {field} @{EPOCH}\n")
    _run("debugfs", ["-w", "-f", commands, image])


def _below(tree: str, path: str) -> str:
    """A path in the tree that no link leads out of.

    :raises AssetError: one would
    """
    full = os.path.join(tree, path)
    folder = os.path.realpath(os.path.dirname(full))
    if folder != os.path.realpath(tree) and not folder.startswith(os.path.realpath(tree) + "/"):
        raise AssetError("a link in the image leads out of it", wanted=path)
    return os.path.join(folder, os.path.basename(full))


def _put(tree: str, path: str, text: str, mode: int = 0o644) -> None:
    place = _below(tree, path)
    make_directories(os.path.dirname(place))
    if os.path.islink(place):
        os.unlink(place)
    with open(place, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.chmod(place, mode)


def _read(tree: str, path: str) -> str:
    with open(_below(tree, path), encoding="utf-8") as stream:
        return stream.read()


def _run(program: str, arguments: list[str]) -> str:
    """Run a program to its end. Returns its output.

    :raises HostError: it failed; the error has its output
    """
    environment = {
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
        "LC_ALL": "C.UTF-8",
        "HOME": "/root",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "E2FSPROGS_FAKE_TIME": str(EPOCH),
    }
    return run([program, *arguments], BUILD_SECONDS, environment=environment).raise_on_failure().text
