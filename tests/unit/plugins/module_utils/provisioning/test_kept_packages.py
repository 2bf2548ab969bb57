# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of a root image are used again only if they are those that were chosen, and as they were kept."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import subprocess
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import root_image
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.kept_packages import FACT, KeptPackages
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.root_image import Recipe, packages_digest

pytestmark = pytest.mark.skipif(not shutil.which("zstd"), reason="needs zstd")


def run(program: str, arguments: list[str]) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(done.stderr)
    return done.stdout


class Builds:
    """Builds of one image, of which each replaces the one before."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory, self.image = directory, directory / "guest.img"
        self.about: dict[str, Any] = {}
        self.fetched = 0

    def fetch(self, archive: str) -> None:
        self.fetched += 1
        source = self.directory / f"source-{self.fetched}"
        (source / "etc").mkdir(parents=True)
        (source / "etc/motd").write_text(f"fetched {self.fetched}")
        run("tar", ["--create", "--zstd", f"--file={archive}", f"--directory={source}", "."])

    def build(self, chosen_by: str, killed: bool = False) -> str:
        work = self.directory / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        kept = KeptPackages(str(self.image), self.about)
        about = kept.unpack(str(work / "tree"), chosen_by, self.fetch, run)
        kept.keep(str(work / "tree"))
        if not killed:
            self.about = about
        return (work / "tree/etc/motd").read_text()


def test_the_same_choice_is_fetched_once(tmp_path: pathlib.Path) -> None:
    builds = Builds(tmp_path)
    assert [builds.build(choice) for choice in ("a", "a", "b", "b", "a")] == [
        f"fetched {number}" for number in (1, 1, 2, 2, 3)
    ]
    kept = KeptPackages(str(builds.image), builds.about)
    assert pathlib.Path(kept.path).stat().st_mode & 0o777 == 0o600
    assert builds.about[FACT]["chosen_by"] == "a"


def test_a_build_that_was_killed_before_its_note_is_not_used(tmp_path: pathlib.Path) -> None:
    builds = Builds(tmp_path)
    builds.build("a")
    builds.build("b", killed=True)
    # The note is that of the first build, and the archive that of the second.
    assert builds.build("a") == "fetched 3"


def test_an_archive_that_was_altered_or_removed_is_not_used(tmp_path: pathlib.Path) -> None:
    builds = Builds(tmp_path)
    builds.build("a")
    path = pathlib.Path(KeptPackages(str(builds.image), builds.about).path)
    path.write_bytes(path.read_bytes() + b"more")
    assert builds.build("a") == "fetched 2"
    path.unlink()
    assert builds.build("a") == "fetched 3"


@pytest.mark.parametrize(
    "about", [{}, {FACT: None}, {FACT: []}, {FACT: {"chosen_by": "a"}}, {FACT: {"chosen_by": "a", "sha256": 1}}]
)
def test_whatever_a_note_has(tmp_path: pathlib.Path, about: dict[str, Any]) -> None:
    kept = KeptPackages(str(tmp_path / "guest.img"), about)
    pathlib.Path(kept.path).write_bytes(b"words")
    assert kept.usable("a") is False


def test_what_determines_the_packages(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "one.list"
    sources.write_text("deb one")
    recipe = Recipe("bookworm", ("udev",), (str(sources),))
    digest = packages_digest(recipe)
    for same in ({"hostname": "other"}, {"size_mb": 900}, {"users": (root_image.User("a"),)}):
        assert packages_digest(dataclasses.replace(recipe, **same)) == digest
    for other in ({"suite": "trixie"}, {"packages": ("udev", "dbus")}, {"serial": "2"}):
        assert packages_digest(dataclasses.replace(recipe, **other)) != digest
    sources.write_text("deb two")
    assert packages_digest(recipe) != digest
    # The host's own sources count if the task names none.
    monkeypatch.setattr(root_image, "_host_sources", lambda: [str(sources)])
    own = packages_digest(dataclasses.replace(recipe, sources=()))
    assert own == packages_digest(recipe)
    sources.write_text("deb three")
    assert packages_digest(dataclasses.replace(recipe, sources=())) != own
