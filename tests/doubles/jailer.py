# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for Firecracker's jailer, which jails the stand-in for Firecracker beside it: chroot, user, cgroups, limits, PID namespace.

It keeps the real jailer's arguments, words and pitfalls: a jail is never removed and cannot be entered twice. Only root can run it.

FIRECRACKER_DOUBLE_VERSION  the version to be, 1.16.1 when not given
JAILER_DOUBLE_FAULTS        `vanishes`: ends with exit code 0 and leaves nothing behind, as with a binary that is linked dynamically
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import os
import re
import resource
import shutil
import sys

CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000
MS_REC, MS_SLAVE = 0x4000, 0x80000
SINGLE = (
    "--id",
    "--exec-file",
    "--uid",
    "--gid",
    "--chroot-base-dir",
    "--netns",
    "--cgroup-version",
    "--parent-cgroup",
    "--node",
    "--seccomp-level",
)
MANY = ("--cgroup", "--resource-limit")
FLAGS = ("--daemonize", "--new-pid-ns", "--version")
SINCE = {
    "--cgroup": (0, 23),
    "--new-pid-ns": (0, 25),
    "--resource-limit": (0, 25),
    "--cgroup-version": (1, 0),
    "--parent-cgroup": (1, 0),
}
REMOVED = {"--node": (1, 0), "--seccomp-level": (0, 21)}
CGROUPS = "/sys/fs/cgroup"


def version() -> tuple[int, ...]:
    return tuple(int(part) for part in os.environ.get("FIRECRACKER_DOUBLE_VERSION", "1.16.1").split("."))


def fail(words: str) -> None:
    print(words, file=sys.stderr)
    raise SystemExit(1)


def parse(arguments: list[str]) -> tuple[dict[str, str], dict[str, list[str]], list[str]]:
    single: dict[str, str] = {}
    many: dict[str, list[str]] = {name: [] for name in MANY}
    words, extra = arguments, []
    if "--" in arguments:
        words, extra = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    if version() < (0, 21):
        if extra:
            fail(
                "Jailer error: Failed to parse arguments: Found argument '--' which wasn't expected, or isn't valid in this context."
            )
        extra = ["--api-sock", "/api.socket"]
    position = 0
    while position < len(words):
        word = words[position]
        known = (
            word in (*SINGLE, *MANY, *FLAGS)
            and version() >= SINCE.get(word, (0,))
            and version() < REMOVED.get(word, (9,))
        )
        if not known:
            fail(
                f"Jailer error: Failed to parse arguments: Found argument '{word.lstrip('-')}' which wasn't expected, or isn't valid in this context."
            )
        if word in FLAGS:
            single[word] = ""
            position += 1
            continue
        if position + 1 >= len(words):
            fail(
                f"Jailer error: Failed to parse arguments: The argument '{word.lstrip('-')}' requires a value, but none was supplied."
            )
        if word in MANY:
            many[word].append(words[position + 1])
        elif word in single:
            fail(
                f"Jailer error: Failed to parse arguments: The argument '{word.lstrip('-')}' was provided more than once."
            )
        else:
            single[word] = words[position + 1]
        position += 2
    return single, many, extra


def load(path: str) -> object:
    """The program that is going to be jailed, read while it can still be reached."""
    loader = importlib.machinery.SourceFileLoader("jailed_double", path)
    spec = importlib.util.spec_from_loader("jailed_double", loader)
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    sys.modules["jailed_double"] = module
    loader.exec_module(module)
    return module


def enter_cgroups(settings: list[str], number: int, parent: str, identity: str) -> None:
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not value or "=" in value:
            fail(f"Jailer error: Invalid format for cgroups: {setting}")
        controller = name.split(".")[0]
        base = CGROUPS if number == 2 else os.path.join(CGROUPS, controller)
        if not os.path.isdir(base):
            fail(f"Jailer error: Controller {controller} is unavailable")
        group = os.path.join(base, parent, identity)
        try:
            os.makedirs(group, exist_ok=True)
            with open(os.path.join(group, name), "w", encoding="ascii") as stream:
                stream.write(value)
            with open(os.path.join(group, "cgroup.procs"), "w", encoding="ascii") as stream:
                stream.write(str(os.getpid()))
        except OSError as error:
            fail(f"Jailer error: Failed to write to cgroups file: {os.strerror(error.errno)} (os error {error.errno})")


def limit(settings: list[str]) -> None:
    kinds = {"fsize": resource.RLIMIT_FSIZE, "no-file": resource.RLIMIT_NOFILE}
    wanted = {"no-file": 2048}
    for setting in settings:
        name, _equals, value = setting.partition("=")
        if name not in kinds or not value.isdigit():
            fail(f"Jailer error: Invalid format for resources limits: {setting}")
        wanted[name] = int(value)
    for name, value in wanted.items():
        resource.setrlimit(kinds[name], (value, value))


def is_running(pid: str) -> bool:
    try:
        os.readlink(f"/proc/{pid}/exe")
    except OSError:  # Nobody, or a zombie.
        return False
    return True


def build(root: str, program: str, source: str, uid: int, gid: int) -> None:
    os.makedirs(root, exist_ok=True)
    target = os.path.join(root, program)
    pidfile = target + ".pid"
    if os.path.exists(pidfile):
        with open(pidfile, encoding="ascii") as stream:
            if is_running(stream.read()):
                fail(f"Jailer error: Failed to copy {source} to {target}: Text file busy (os error 26)")
    shutil.copyfile(source, target)
    os.chmod(target, 0o700)
    os.chown(target, uid, gid)
    os.chmod(root, 0o700)
    for folder in ("", "dev", "dev/net", "run"):
        os.makedirs(os.path.join(root, folder), mode=0o700, exist_ok=True)
        os.chown(os.path.join(root, folder), uid, gid)
    for name, major, minor in (("/dev/net/tun", 10, 200), ("/dev/kvm", 10, 232), ("/dev/urandom", 1, 9)):
        try:
            os.mknod(root + name, 0o20600, os.makedev(major, minor))
        except OSError as error:
            fail(
                f"Jailer error: Failed to create {name} via mknod inside the jail: {os.strerror(error.errno)} (os error {error.errno})"
            )
        os.chown(root + name, uid, gid)


def main() -> int:
    single, many, extra = parse(sys.argv[1:])
    if "--version" in single:
        print(f"Jailer v{'.'.join(map(str, version()))}\n")
        return 0
    for name in ("--id", "--exec-file", "--uid", "--gid"):
        if name not in single:
            fail(f"Jailer error: Failed to parse arguments: Argument '{name.lstrip('-')}' required, but not found.")
    if os.geteuid() != 0:
        fail("Jailer error: Failed to change owner: Operation not permitted (os error 1)")
    identity = single["--id"]
    for position, character in enumerate(identity):
        if not re.fullmatch("[A-Za-z0-9-]", character):
            fail(f"Jailer error: Invalid instance ID: Invalid char ({character}) at position {position}")
    if not 1 <= len(identity) <= 64:
        fail(f"Jailer error: Invalid instance ID: Invalid len ({len(identity)});  the length must be between 1 and 64")
    source = os.path.realpath(single["--exec-file"])
    program = os.path.basename(source)
    if not os.path.isfile(source):
        fail(
            f"Jailer error: Failed to canonicalize path {single['--exec-file']}: No such file or directory (os error 2)"
        )
    if version() < (1, 13) and "firecracker" not in program:
        fail('Jailer error: Invalid filename. The filename of `--exec-file` option must contain "firecracker"')
    base = single.get("--chroot-base-dir", "/srv/jailer")
    if not os.path.isdir(base):
        fail(f"Jailer error: Failed to canonicalize path {base}: No such file or directory (os error 2)")
    if "vanishes" in os.environ.get("JAILER_DOUBLE_FAULTS", ""):
        return 0
    uid, gid = int(single["--uid"]), int(single["--gid"])
    root = os.path.join(os.path.realpath(base), program, identity, "root")
    build(root, program, source, uid, gid)
    jailed = load(source)
    limit(many["--resource-limit"])
    enter_cgroups(
        many["--cgroup"], int(single.get("--cgroup-version", "1")), single.get("--parent-cgroup", program), identity
    )
    libc = ctypes.CDLL(None, use_errno=True)
    # Mounts of its own: what the host mounts later is seen only where it is shared.
    if libc.unshare(CLONE_NEWNS) or libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None):
        fail(f"Jailer error: Failed to unshare into new mount namespace: {os.strerror(ctypes.get_errno())}")
    os.chroot(root)
    os.chdir("/")
    if "--new-pid-ns" in single:
        if libc.unshare(CLONE_NEWPID):
            fail(f"Jailer error: Failed to clone: {os.strerror(ctypes.get_errno())}")
        child = os.fork()
        if child:
            with open(f"/{program}.pid", "x", encoding="ascii") as stream:
                stream.write(str(child))
            os._exit(0)
        os.setsid()
    else:
        with open(f"/{program}.pid", "x", encoding="ascii") as stream:
            stream.write(str(os.getpid()))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    return jailed.main(["--id", identity, "--start-time-us", "1", "--start-time-cpu-us", "1", *extra])


if __name__ == "__main__":
    sys.exit(main())
