# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare a host for sandboxes, or undo that: kernel modules, group and user, directories, huge pages, units, console logs.

Each function `_plan_...` compares one part of the host with the settings and returns the changes to make. Check mode lists them; a task
makes them in this order. One module call does all of it, since each task on each host costs the controller more than all of these comparisons.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
from typing import Any, Callable, Iterator, NamedTuple

from ..errors import HostError, StateError
from ..host.atomic_files import make_directories, replace_file, write_problem
from ..host.programs import output_of, run
from ..host.systemd import BOOTED
from ..records.store import list_ids
from .host_files import (
    BRIDGE,
    SLICE,
    TRIMMER_DIRECTORY,
    TRIMMER_TIMER,
    UDEV_RULES,
    UNITS,
    HostSettings,
    absent_files,
    enabled_units,
    host_files,
)

HUGE_PAGES_NOW = "/proc/sys/vm/nr_hugepages"
LOADED_MODULES = "/sys/module"
NOBODY_HOME, NO_SHELL, COMMENT = "/nonexistent", "/usr/sbin/nologin", "VMMs of kata.hypervisor"
#: Seconds for one program, such as useradd or systemctl.
SECONDS = 60


class Change(NamedTuple):
    """One change of the host.

    :param action: what it does, for the result
    :param make: does it; returns False if the host has refused, and is as before
    :param before: what is there, for the diff
    :param after: what will be there
    """

    action: str
    make: Callable[[], object]
    before: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    after: dict[str, Any] = {}  # noqa: RUF012


def prepare(settings: HostSettings, check_mode: bool = False) -> dict[str, Any]:
    """Bring the host to the settings.

    :returns: what the module returns: `changed`, `actions`, `diff`
    :raises HostError: the host cannot do what the settings say, or a change failed
    """
    systemd = os.path.isdir(BOOTED)
    if (settings.bridge or settings.slice_properties) and not systemd:
        raise HostError(
            "This host does not run systemd, which a bridge and the properties of a slice need. Nothing was changed",
            option="bridge" if settings.bridge else "slice_properties",
            fix="Leave both empty, create the bridge in another way (ip link add name BRIDGE type bridge), and name it in the network devices.",
        )
    files = list(_plan_files(host_files(settings, systemd, os.path.isdir(UDEV_RULES))))
    changes = [
        *files,
        *_plan_modules(settings.modules),
        *_plan_group(settings.kvm_group),
        *_plan_user(settings.vmm_user, settings.kvm_group),
        *_plan_directories(settings.state_dir),
        *_plan_huge_pages(settings.hugepages),
    ]
    if systemd:
        unwanted = [TRIMMER_TIMER] if settings.console_log_mb == 0 else []
        # A unit is stopped while systemd still knows it.
        changes = [*_plan_stops(unwanted), *changes, *_plan_units(enabled_units(settings, systemd), files)]
    return _make(changes, check_mode)


def undo(settings: HostSettings, check_mode: bool = False) -> dict[str, Any]:
    """Remove what `prepare` created. Packages, groups and loaded modules stay.

    :returns: as `prepare`
    :raises StateError: there are sandboxes on the host; nothing was changed
    """
    ids = list_ids(settings.state_dir, settings.run_dir)
    if ids:
        raise StateError(f"There are sandboxes on this host: {', '.join(ids)}. Remove them first.")
    files = list(_plan_files(absent_files()))
    changes = files
    if os.path.isdir(BOOTED):
        changes = [*_plan_stops([BRIDGE, TRIMMER_TIMER]), *files, *_plan_units([], files)]
    sandboxes = os.path.join(settings.state_dir, "sandboxes")
    if os.path.lexists(sandboxes):
        changes.append(
            Change(f"remove {sandboxes}", lambda: shutil.rmtree(sandboxes), {sandboxes: "directory"}, {sandboxes: ""})
        )
    if settings.vmm_user and _user(settings.vmm_user):
        changes.append(Change(f"remove the user {settings.vmm_user}", lambda: _run("userdel", settings.vmm_user)))
    return _make(changes, check_mode)


def _make(changes: list[Change], check_mode: bool) -> dict[str, Any]:
    made = []
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for change in changes:
        try:
            if not check_mode and change.make() is False:
                continue
        except OSError as problem:
            raise write_problem(problem, f"this failed: {change.action}", str(problem.filename or "")) from problem
        made.append(change.action)
        before.update(change.before)
        after.update(change.after)
    return {
        "changed": bool(made),
        "actions": made,
        "diff": {"before": before, "after": after},
    }


def _plan_files(files: dict[str, str | None]) -> Iterator[Change]:
    for path, content in files.items():
        found = _content(path)
        if content is None:
            if found is not None:
                yield Change(f"remove {path}", _remover(path), {path: found}, {path: ""})
        elif found != content:
            yield Change(f"write {path}", _writer(path, content), {path: found or ""}, {path: content})
        elif not _is_ours(path, 0o644):
            yield Change(f"correct the owner and the mode of {path}", _owner(path, 0o644))


def _content(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise HostError("the file cannot be read", wanted=path, answer=str(problem)) from problem


def _writer(path: str, content: str) -> Callable[[], None]:
    def write() -> None:
        make_directories(os.path.dirname(path))
        replace_file(path, content.encode("utf-8"))

    return write


def _remover(path: str) -> Callable[[], None]:
    def remove() -> None:
        os.unlink(path)
        # Python may have left its compiled copy of the program there.
        if os.path.dirname(path) == TRIMMER_DIRECTORY:
            shutil.rmtree(TRIMMER_DIRECTORY)

    return remove


def _is_ours(path: str, mode: int) -> bool:
    status = os.stat(path)
    return (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, os.geteuid(), os.getegid())


def _owner(path: str, mode: int) -> Callable[[], None]:
    def correct() -> None:
        os.chown(path, os.geteuid(), os.getegid())
        os.chmod(path, mode)

    return correct


def _plan_modules(names: tuple[str, ...]) -> Iterator[Change]:
    """Modules that the kernel has and that are not loaded. A container has none."""
    for name in names:
        # A line says "insmod PATH", or "builtin NAME" for what is always there.
        if not _is_loaded(name) and "insmod" in output_of(["modprobe", "--show-depends", name], SECONDS).text.split():
            yield Change(loads(name), _loader(name))


def loads(module: str) -> str:
    """The action that loads a kernel module."""
    return f"load the kernel module {module}"


def _is_loaded(name: str) -> bool:
    return os.path.isdir(os.path.join(LOADED_MODULES, name.replace("-", "_")))


def _loader(name: str) -> Callable[[], bool]:
    def load() -> bool:
        # A module can refuse the hardware. What counts is the device, which is reported in the end.
        output_of(["modprobe", name], SECONDS)
        return _is_loaded(name)

    return load


def _plan_group(name: str) -> Iterator[Change]:
    try:
        grp.getgrnam(name)
    except KeyError:
        yield Change(f"create the group {name}", lambda: _run("groupadd", "--system", name))


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _plan_user(name: str, group: str) -> Iterator[Change]:
    if not name:
        return
    options = ["--home-dir", NOBODY_HOME, "--shell", NO_SHELL, "--comment", COMMENT]
    found = _user(name)
    if found is None:
        own_group = ["--no-user-group"] if _group_exists(name) else []
        create = ["useradd", "--system", "--no-create-home", *own_group, *options, "--groups", group, name]
        yield Change(f"create the user {name}", lambda: _run(*create), {}, {"user": name})
        return
    wrong = (found.pw_dir, found.pw_shell, found.pw_gecos) != (NOBODY_HOME, NO_SHELL, COMMENT)
    member = _group_exists(group) and (name in grp.getgrnam(group).gr_mem or grp.getgrnam(group).gr_gid == found.pw_gid)
    if wrong or not member:
        change = ["usermod", "--home", *options[1:], "--append", "--groups", group, name]
        yield Change(f"correct the user {name}", lambda: _run(*change))


def _group_exists(name: str) -> bool:
    return not list(_plan_group(name))


def _plan_directories(state_dir: str) -> Iterator[Change]:
    for path, mode in (
        (state_dir, 0o755),
        (os.path.join(state_dir, "assets"), 0o755),
        (os.path.join(state_dir, "sandboxes"), 0o700),
    ):
        if not os.path.isdir(path):
            yield Change(f"create {path}", _directory(path, mode), {path: ""}, {path: f"directory {mode:04o}"})
        elif not _is_ours(path, mode):
            yield Change(f"correct the owner and the mode of {path}", _owner(path, mode))


def _directory(path: str, mode: int) -> Callable[[], None]:
    return lambda: make_directories(path, mode)


def _plan_huge_pages(wanted: int) -> Iterator[Change]:
    if wanted < 0:
        return
    found = _huge_pages()
    if found != wanted:
        yield Change(
            f"reserve {wanted} huge pages", lambda: _reserve(wanted), {"huge_pages": found}, {"huge_pages": wanted}
        )


def _huge_pages() -> int:
    with open(HUGE_PAGES_NOW, encoding="ascii") as stream:
        return int(stream.read())


def _reserve(wanted: int) -> None:
    with open(HUGE_PAGES_NOW, "w", encoding="ascii") as stream:
        stream.write(str(wanted))
    reserved = _huge_pages()
    if reserved != wanted:
        raise HostError(
            f"The kernel reserved {reserved} of {wanted} huge pages, since its memory is fragmented",
            fix="Reboot the host, which reserves huge pages first, or reserve fewer (hugepages, in the role kata_host_hugepages).",
        )


def _plan_stops(units: list[str]) -> Iterator[Change]:
    for unit in units:
        if os.path.lexists(f"{UNITS}/{unit}"):
            yield Change(f"stop and disable {unit}", _systemctl("disable", "--now", unit))


def _plan_units(enabled: list[str], files: list[Change]) -> Iterator[Change]:
    """Reload systemd if a file of a unit changes, or changed before a task that was killed; then start and enable the units."""
    states = _unit_states([SLICE, *enabled])
    written = any(path.startswith(UNITS) for change in files for path in change.after)
    if written or any(state.get("NeedDaemonReload") == "yes" for state in states.values()):
        yield Change("reload systemd", _systemctl("daemon-reload"))
    for unit in enabled:
        state = states.get(unit, {})
        if (state.get("UnitFileState"), state.get("ActiveState")) != ("enabled", "active"):
            yield Change(f"start and enable {unit}", _systemctl("enable", "--now", unit))


def _unit_states(units: list[str]) -> dict[str, dict[str, str]]:
    properties = "--property=Id,UnitFileState,ActiveState,NeedDaemonReload"
    blocks = _run("systemctl", "show", properties, *units).split("\n\n")
    states = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
    return {state["Id"]: state for state in states if "Id" in state}


def _systemctl(*arguments: str) -> Callable[[], object]:
    return lambda: _run("systemctl", *arguments)


def _run(*argv: str) -> str:
    return run(list(argv), SECONDS).raise_on_failure().text
