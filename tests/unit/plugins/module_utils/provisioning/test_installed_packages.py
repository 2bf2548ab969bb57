# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is missing is read from the package database; the package manager runs only for that, and never in check mode."""

from __future__ import annotations

import os
import pathlib
import time
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.programs import Ended
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import installed_packages
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.installed_packages import (
    install,
    missing_of_apt,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.packages import Apt, Dnf

DATABASE = "\n".join(
    (
        "ii \tqemu-utils\tamd64\t1:7.2+dfsg-7\t",
        "ii \tmawk\tamd64\t1.3.4\tawk",
        "rc \tnftables\tamd64\t1.0.6\t",
        "iU \thalf\tamd64\t1\t",
        "ii \texim4-daemon\tamd64\t4.96\tdefault-mta, mail-transport-agent (= 4)",
        "hi \theld\tarm64\t2\t",
    )
)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["qemu-utils", "mawk"], []),
        (["qemu-utils:amd64"], []),
        (["qemu-utils:arm64"], ["qemu-utils:arm64"]),
        (["awk", "mail-transport-agent"], []),
        (["nftables", "dnsmasq-base"], ["nftables", "dnsmasq-base"]),
        (["qemu-utils=1:7.2*"], []),
        (["qemu-utils=1:8.0*"], ["qemu-utils=1:8.0*"]),
        (["half"], ["half"]),
        (["held"], []),
    ],
)
def test_what_the_database_has_is_not_missing(names: list[str], missing: list[str]) -> None:
    assert missing_of_apt(names, DATABASE) == missing


class Programs:
    """Stands for the host's programs: what was run, and what they answer."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fails = 0
        self.rpms = {"nftables"}

    def run(self, argv: list[str], seconds: float, **_options: Any) -> Ended:
        if argv[0] == "dpkg-query":
            return Ended(argv, 0, DATABASE.encode(), "")
        if argv[0] == "rpm":
            if argv[1:] == ["--query", "--all"]:
                return Ended(argv, 0, "\n".join(sorted(self.rpms)).encode(), "")
            return Ended(argv, 0 if argv[-1] in self.rpms else 1, b"", "")
        self.ran.append(" ".join(argv))
        if argv[0] == "dnf":
            self.rpms.update(name for name in argv[5:] if not name.startswith("@"))
        if "install" in argv and self.fails:
            self.fails -= 1
            return Ended(argv, 100, b"", "404 Not Found")
        return Ended(argv, 0, b"", "")


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Programs:
    found = Programs()
    (tmp_path / "x_Packages").touch()
    monkeypatch.setattr(installed_packages, "LISTS", str(tmp_path))
    monkeypatch.setattr(installed_packages, "run", found.run)
    monkeypatch.setattr(Apt, "refresh", lambda self: found.ran.append("refresh"))
    monkeypatch.setattr(installed_packages, "package_manager", Apt)
    return found


def test_nothing_runs_when_nothing_is_missing(programs: Programs) -> None:
    assert install(["qemu-utils"])["changed"] is False
    assert programs.ran == []


def test_check_mode_names_what_is_missing_and_installs_nothing(programs: Programs) -> None:
    result = install(["qemu-utils", "nftables"], check_mode=True)
    assert (result["changed"], result["actions"], programs.ran) == (True, ["install nftables"], [])


def test_only_what_is_missing_is_installed(programs: Programs) -> None:
    assert install(["qemu-utils", "nftables"])["missing"] == ["nftables"]
    (command,) = programs.ran
    assert command.startswith("apt-get -q -y --no-install-recommends ") and command.endswith(" install nftables")


@pytest.mark.parametrize("lists", ["missing", "old"])
def test_lists_that_are_missing_or_old_are_fetched_first(
    programs: Programs, tmp_path: pathlib.Path, lists: str
) -> None:
    if lists == "missing":
        (tmp_path / "x_Packages").unlink()
    else:
        for path in (tmp_path / "x_Packages", tmp_path):
            os.utime(path, (time.time() - 2 * installed_packages.OLD_SECONDS,) * 2)
    install(["nftables"])
    assert programs.ran[0] == "refresh" and len(programs.ran) == 2


def test_a_version_that_the_archive_replaced_is_tried_again_with_new_lists(programs: Programs) -> None:
    programs.fails = 1
    assert install(["nftables"])["changed"]
    assert programs.ran[1] == "refresh" and len(programs.ran) == 3
    programs.fails = 2
    with pytest.raises(HostError, match="404 Not Found"):
        install(["nftables"])


@pytest.mark.parametrize("name", ["--allow-unauthenticated", "a b", "", "a;b", "-y"])
def test_what_is_no_name_of_a_package_is_refused(programs: Programs, name: str) -> None:
    with pytest.raises(ConfigError, match="name of a package"):
        install(["qemu-utils", name])
    assert programs.ran == []


def test_dnf_reports_a_change_only_if_the_database_changed(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed_packages, "package_manager", Dnf)
    assert install(["nftables"])["changed"] is False
    assert programs.ran == []
    assert install(["nftables", "dnsmasq"])["changed"] is True
    assert programs.ran == ["dnf -q -y --setopt=install_weak_deps=False install dnsmasq"]
    assert install(["@virtualization"])["changed"] is False
