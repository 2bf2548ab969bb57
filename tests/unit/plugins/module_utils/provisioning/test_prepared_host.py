# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is compared with the settings; only what differs is changed; check mode lists the same changes and makes none."""

from __future__ import annotations

import dataclasses
import grp
import os
import pathlib
import pwd
import re
import stat
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError, StateError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.programs import Output
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import host_files, prepared_host
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.host_files import HostSettings
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.prepared_host import prepare, undo

ROOT_PATHS = ("MODULES", "HUGE_PAGES", "UDEV_RULES", "KVM_RULE", "UNITS", "TRIMMER_DIRECTORY", "TRIMMER_PROGRAM")


class Host:
    """A host below a directory: its users, groups, modules and units are kept here, and each command that changes something is recorded."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.commands: list[str] = []
        self.groups: dict[str, list[str]] = {}
        self.users: dict[str, dict[str, str]] = {}
        self.units: dict[str, str] = {}
        self.loadable = {"tun"}
        self.refuses = False
        (root / "etc/udev/rules.d").mkdir(parents=True)
        (root / "run/systemd/system").mkdir(parents=True)
        (root / "sys/module").mkdir(parents=True)
        (root / "proc").mkdir()
        (root / "proc/nr_hugepages").write_text("0\n")

    def run(self, program: str, *arguments: str) -> str:
        if arguments[:1] == ("show",):
            shown = []
            for unit in arguments[2:]:
                enabled = self.units.get(unit) == "enabled"
                state = (
                    "UnitFileState=enabled\nActiveState=active" if enabled else "UnitFileState=\nActiveState=inactive"
                )
                shown.append(f"Id={unit}\nNeedDaemonReload=no\n{state}\n")
            return "\n".join(shown)
        self.commands.append(" ".join((program, *arguments)))
        name = arguments[-1]
        if program == "groupadd":
            self.groups[name] = []
        elif program in ("useradd", "usermod"):
            given = dict(zip(arguments, arguments[1:]))
            home = given.get("--home-dir", given.get("--home", ""))
            self.users[name] = {"home": home, "shell": given["--shell"], "comment": given["--comment"]}
            self.groups[given["--groups"]].append(name)
        elif program == "userdel":
            del self.users[name]
        elif arguments[0] in ("enable", "disable"):
            self.units[name] = f"{arguments[0]}d"
        return ""

    def modprobe(self, argv: list[str], seconds: float) -> Output:
        name = argv[-1]
        if argv[1] == "--show-depends":
            return Output(0, b"insmod /lib/modules/x.ko" if name in self.loadable else b"builtin x", "")
        self.commands.append(" ".join(argv))
        if not self.refuses:
            (self.root / "sys/module" / name).mkdir()
        return Output(0, b"", "")

    def getgrnam(self, name: str) -> grp.struct_group:
        return grp.struct_group((name, "x", 900, self.groups[name]))

    def getpwnam(self, name: str) -> pwd.struct_passwd:
        user = self.users[name]
        return pwd.struct_passwd((name, "x", 901, 901, user["comment"], user["home"], user["shell"]))

    def files(self) -> dict[str, str]:
        paths = [path for folder in ("etc", "usr", "state") for path in (self.root / folder).rglob("*")]
        return {str(path.relative_to(self.root)): path.read_text() if path.is_file() else "" for path in paths}


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    one = Host(tmp_path)
    for name in ROOT_PATHS:
        moved = f"{tmp_path}{getattr(host_files, name)}"
        monkeypatch.setattr(host_files, name, moved)
        if hasattr(prepared_host, name):
            monkeypatch.setattr(prepared_host, name, moved)
    monkeypatch.setattr(prepared_host, "BOOTED", f"{tmp_path}/run/systemd/system")
    monkeypatch.setattr(prepared_host, "LOADED_MODULES", f"{tmp_path}/sys/module")
    monkeypatch.setattr(prepared_host, "HUGE_PAGES_NOW", f"{tmp_path}/proc/nr_hugepages")
    monkeypatch.setattr(prepared_host, "_run", one.run)
    monkeypatch.setattr(prepared_host, "output_of", one.modprobe)
    monkeypatch.setattr(prepared_host.grp, "getgrnam", one.getgrnam)
    monkeypatch.setattr(prepared_host.pwd, "getpwnam", one.getpwnam)
    return one


@pytest.fixture
def everything(tmp_path: pathlib.Path) -> HostSettings:
    return HostSettings(
        state_dir=str(tmp_path / "state"),
        run_dir=str(tmp_path / "run/sandboxes"),
        modules=("tun", "kvm"),
        vmm_user="kata-vmm",
        hugepages=4,
        slice_properties=("TasksMax=4000",),
        bridge="kata0",
        bridge_address="10.80.0.1/24",
        bridge_mac="02:00:00:00:00:01",
        console_log_mb=16,
    )


def test_the_first_run_prepares_all_and_the_second_changes_nothing(host: Host, everything: HostSettings) -> None:
    before = host.files()
    predicted = prepare(everything, check_mode=True)
    assert (host.files(), host.commands) == (before, [])
    done = prepare(everything)
    assert done["changed"] and done["actions"] == predicted["actions"] and done["diff"] == predicted["diff"]
    assert host.commands == [
        "modprobe tun",
        "groupadd --system kvm",
        "useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin --comment VMMs of kata.hypervisor --groups kvm kata-vmm",
        "systemctl daemon-reload",
        "systemctl enable --now kata-console-logs.timer",
        "systemctl enable --now kata-bridge.service",
    ]
    assert (host.root / "proc/nr_hugepages").read_text() == "4"
    after = host.files()
    again = prepare(everything)
    assert (again["changed"], again["actions"], host.files()) == (False, [], after)


def test_files_and_directories_have_their_modes_whatever_the_umask(host: Host, everything: HostSettings) -> None:
    old = os.umask(0o077)
    try:
        prepare(everything)
    finally:
        os.umask(old)
    modes = {path: stat.S_IMODE(os.stat(path).st_mode) for path in host_files.host_files(everything, True, True)}
    assert set(modes.values()) == {0o644}
    found = {name: stat.S_IMODE(os.stat(host.root / "state" / name).st_mode) for name in ("", "assets", "sandboxes")}
    assert found == {"": 0o755, "assets": 0o755, "sandboxes": 0o700}


@pytest.mark.parametrize(
    ("damage", "action"),
    [
        (
            lambda host: (host.root / "etc/modules-load.d/kata-hypervisor.conf").write_text("x"),
            "write .*modules-load.d",
        ),
        (lambda host: (host.root / "etc/systemd/system/kata.slice").unlink(), "write .*kata.slice"),
        (lambda host: (host.root / "state/sandboxes").chmod(0o755), "correct the owner and the mode of .*sandboxes"),
        (lambda host: (host.root / "etc/systemd/system/kata.slice").chmod(0o666), "correct the owner .*kata.slice"),
        (lambda host: host.units.update({"kata-console-logs.timer": "disabled"}), "start and enable kata-console-logs"),
        (lambda host: host.users["kata-vmm"].update(shell="/bin/sh"), "correct the user kata-vmm"),
        (lambda host: host.groups["kvm"].clear(), "correct the user kata-vmm"),
        (lambda host: (host.root / "proc/nr_hugepages").write_text("2"), "reserve 4 huge pages"),
    ],
)
def test_what_was_damaged_is_repaired_and_nothing_else(
    host: Host, everything: HostSettings, damage: Any, action: str
) -> None:
    prepare(everything)
    damage(host)
    actions = prepare(everything)["actions"]
    reloads = ["reload systemd"] if "write .*kata.slice" in action else []
    assert len(actions) == 1 + len(reloads)
    assert re.match(action, actions[0])
    assert actions[1:] == reloads
    assert prepare(everything)["actions"] == []


def test_a_module_that_refuses_the_hardware_is_no_change(host: Host, everything: HostSettings) -> None:
    prepare(everything)
    (host.root / "sys/module/tun").rmdir()
    host.refuses = True
    assert prepare(everything)["changed"] is False


def test_without_a_limit_of_console_logs_the_trimmer_is_stopped_and_removed(
    host: Host, everything: HostSettings
) -> None:
    prepare(everything)
    host.commands.clear()
    done = prepare(dataclasses.replace(everything, console_log_mb=0))
    assert host.commands == ["systemctl disable --now kata-console-logs.timer", "systemctl daemon-reload"]
    assert done["actions"][0] == "stop and disable kata-console-logs.timer"
    assert not [path for path in host.files() if "console" in path or "usr/local/lib/kata-hypervisor" in path]


def test_without_systemd_a_bridge_is_refused_and_nothing_changes(host: Host, everything: HostSettings) -> None:
    (host.root / "run/systemd/system").rmdir()
    before = host.files()
    with pytest.raises(HostError, match="does not run systemd") as caught:
        prepare(everything)
    assert caught.value.option == "bridge"
    assert (host.files(), host.commands) == (before, [])
    plain = dataclasses.replace(everything, bridge="", slice_properties=())
    assert "systemctl" not in " ".join(prepare(plain)["actions"] + host.commands)


def test_huge_pages_that_the_kernel_does_not_give_are_an_error(
    host: Host, everything: HostSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared_host, "_huge_pages", lambda: 1)
    with pytest.raises(HostError, match="reserved 1 of 4 huge pages"):
        prepare(everything)


def test_undo_removes_what_was_created_and_keeps_the_rest(host: Host, everything: HostSettings) -> None:
    prepare(everything)
    host.commands.clear()
    predicted = undo(everything, check_mode=True)
    assert host.commands == []
    done = undo(everything)
    assert done["actions"] == predicted["actions"]
    assert host.commands == [
        "systemctl disable --now kata-bridge.service",
        "systemctl disable --now kata-console-logs.timer",
        "systemctl daemon-reload",
        "userdel kata-vmm",
    ]
    assert {path for path in host.files() if (host.root / path).is_file()} == set()
    assert not (host.root / "state/sandboxes").exists()
    assert undo(everything)["changed"] is False


def test_undo_refuses_a_host_with_sandboxes(host: Host, everything: HostSettings) -> None:
    prepare(everything)
    (host.root / "state/sandboxes/web-1").mkdir()
    before = host.files()
    with pytest.raises(StateError, match="There are sandboxes on this host: web-1"):
        undo(everything)
    assert host.files() == before
