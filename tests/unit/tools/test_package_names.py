# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`tools/package_names.py` reads the indexes of apt and of rpm, and names what they lack. The forms are those of deb822(5), and of createrepo_c."""

from __future__ import annotations

import urllib.error

import pytest

from tools import package_names
from tools.package_names import main, packages_of_apt, packages_of_rpm, primary_of, problems, wanted

PACKAGES = """\
Package: linux-image-cloud-arm64
Architecture: arm64
Depends: linux-image-6.12.57+deb13-cloud-arm64 (= 6.12.57-1)
Description: Linux for cloud
 Package: this is text

Package: socat
Pre-Depends: dpkg (>= 1.17)
Depends: libc6 (>= 2.38), libssl3t64 (>= 3.0.0) | libssl3:any, libwrap0

Package: busybox-static
"""
PRIMARY = """<?xml version="1.0"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="1">
<package type="rpm"><name>socat</name><arch>x86_64</arch><format>
<rpm:requires><rpm:entry name="openssl-libs" flags="GE"/><rpm:entry name="libc.so.6()(64bit)"/></rpm:requires>
<rpm:provides><rpm:entry name="socat(x86-64)"/></rpm:provides>
</format></package></metadata>
"""
REPOMD = """<?xml version="1.0"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo">
<data type="filelists"><location href="repodata/a-filelists.xml.gz"/></data>
<data type="primary"><location href="repodata/b-primary.xml.zst"/></data></repomd>
"""
NAMES = {
    "qemu": ["qemu-system-arm"],
    "virtiofsd": [],
    "network": ["nftables"],
    "firmware": {"ovmf": ["ovmf"]},
    "kernel": "linux-image-cloud-arm64",
    "kernel_follow": "^linux-image-[0-9]",
    "busybox": "busybox-static",
    "qemu_img": "qemu-utils",
    "guest_libraries": "^z?lib",
}


def test_a_packages_file_gives_the_dependencies_of_each_package() -> None:
    assert packages_of_apt(PACKAGES) == {
        "linux-image-cloud-arm64": ["linux-image-6.12.57+deb13-cloud-arm64"],
        "socat": ["libc6", "libssl3t64", "libssl3", "libwrap0"],
        "busybox-static": [],
    }


def test_repodata_gives_the_requirements_of_each_package() -> None:
    assert packages_of_rpm(PRIMARY) == {"socat": ["openssl-libs", "libc.so.6()(64bit)"]}
    assert primary_of(REPOMD) == "repodata/b-primary.xml.zst"
    with pytest.raises(ValueError, match=r"no primary\.xml"):
        primary_of('<repomd xmlns="http://linux.duke.edu/metadata/repo"/>')


def test_what_is_not_published_is_named() -> None:
    published = {name: ["libc6"] for name, _pattern in wanted(NAMES)}
    published["linux-image-cloud-arm64"] = ["linux-image-6.12-cloud-arm64"]
    assert problems(NAMES, published) == []
    published["linux-image-cloud-arm64"] = ["linux-base"]
    del published["ovmf"]
    assert problems(NAMES, published) == [
        "no dependency of linux-image-cloud-arm64 matches ^linux-image-[0-9]",
        "there is no package ovmf",
    ]


def test_an_index_that_cannot_be_reached_is_reported_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(url: str) -> bytes:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(package_names, "_get", unreachable)
    assert main(["debian 13"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["debian 13 x86_64: NOT CHECKED", "debian 13 aarch64: NOT CHECKED"]


def test_a_missing_name_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(package_names, "read", lambda url: packages_of_apt(PACKAGES))
    assert main(["fedora"]) == 1
    assert "fedora 43 aarch64: there is no package busybox;" in capsys.readouterr().out
