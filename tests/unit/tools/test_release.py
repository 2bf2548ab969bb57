# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases: what is refused, and what one does to a clone of this checkout."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest
import yaml

from tools import release

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("last", "sections", "versions"),
    [
        (None, {"release_summary"}, ["1.0.0"]),
        ("1.2.3", {"bugfixes"}, ["1.2.4", "1.3.0", "2.0.0"]),
        ("1.2.3", {"security_fixes", "known_issues"}, ["1.2.4", "1.3.0", "2.0.0"]),
        ("1.2.3", {"bugfixes", "minor_changes"}, ["1.3.0", "2.0.0"]),
        ("1.2.3", {"deprecated_features"}, ["1.3.0", "2.0.0"]),
        ("1.9.0", {"minor_changes", "removed_features"}, ["2.0.0"]),
        ("1.9.0", {"breaking_changes"}, ["2.0.0"]),
    ],
)
def test_what_changed_decides_about_the_next_version(last: str | None, sections: set[str], versions: list[str]) -> None:
    assert release.successors(last, sections) == versions


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "1.0.0-rc1", "01.0.0", "1.0.0\n", ""])
def test_a_version_is_three_numbers(version: str) -> None:
    with pytest.raises(release.Refused, match="three numbers"):
        release.parts(version)


@pytest.mark.parametrize("place", release.PLACES)
def test_every_place_has_the_version_of_galaxy_yml(place: str) -> None:
    text = (ROOT / place).read_text(encoding="utf-8")
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    assert release.with_version(text, release.PLACES[place], version) == text
    assert release.with_version(text, release.PLACES[place], "7.8.9") == text.replace(version, "7.8.9")


def test_a_file_without_a_version_is_refused() -> None:
    with pytest.raises(release.Refused, match="must have the version"):
        release.with_version("name: value\n", release.PLACES["galaxy.yml"], "1.0.0")


def git(tree: pathlib.Path, *words: str) -> str:
    command = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@example.com", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_release_of_a_clone(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-tags", "--depth=1", f"file://{ROOT}", tree], check=True)
    for variable in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(variable, "a@example.com")
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    major, minor, _patch = release.parts(version)
    following = f"{major}.{minor + 1}.0"
    (tree / "changelogs/changelog.yaml").write_text(
        f"releases:\n  {version}:\n    release_date: '2026-01-01'\n", encoding="utf-8"
    )
    for path in (tree / "changelogs/fragments").glob("*.yml"):
        path.unlink()
    fragment = tree / f"changelogs/fragments/{following}.yml"
    fragment.parent.mkdir(exist_ok=True)
    fragment.write_text(
        "release_summary: A release for a test.\nminor_changes:\n  - kata_sandbox - a test.\n", encoding="utf-8"
    )

    def released(action: str, number: str) -> tuple[int, str]:
        command = [sys.executable, str(tree / "tools/release.py"), action, number]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    code, text = released("make", following)
    assert code == 1 and "must have no changes" in text and fragment.name in text
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "A fragment")
    code, text = released("check", f"{major}.{minor}.9")
    assert code == 1 and f"must be one of: {following}, {major + 1}.0.0" in text

    assert released("check", following) == (0, "")
    code, text = released("make", following)
    assert code == 0, text
    assert git(tree, "tag", "--list") == f"{following}\n"
    assert git(tree, "status", "--porcelain") == ""
    assert "plugins/module_utils/records/record.py" in git(tree, "show", "--name-only", following).splitlines()
    assert f"version: {following}\n" in (tree / "galaxy.yml").read_text(encoding="utf-8")
    assert f"v{following}\n" in (tree / "CHANGELOG.rst").read_text(encoding="utf-8")
    assert "- kata_sandbox - a test." in (tree / "CHANGELOG.rst").read_text(encoding="utf-8")
    assert not fragment.exists()
    assert (tree / f"kata-hypervisor-{following}.tar.gz").exists()
    code, text = released("check", following)
    assert code == 1 and "release_summary" in text
