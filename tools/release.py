# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a release: set the version, turn the changelog fragments into its changelog, build the tarball, commit and tag.

`release.py check VERSION` fails if that cannot be done, `release.py make VERSION` does it. Nothing is published.
"""

from __future__ import annotations

import datetime
import os
import pathlib
import re
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[1]
BIN = pathlib.Path(sys.executable).parent

#: The places of the version, and what stands around it. Ansible reads the first one, hosts have only the second one.
PLACES = {
    "galaxy.yml": r"^(version: )\S+$",
    "plugins/module_utils/records/record.py": r'^(COLLECTION_VERSION = ")[^"]+(?=")',
    "README.md": r"(kata-hypervisor-)[0-9.]+(?=\.tar\.gz)",
    "docs/quickstart.md": r"(kata-hypervisor-)[0-9.]+(?=\.tar\.gz)",
}
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
#: Which sections need a new minor or major version.
MINOR = {"major_changes", "minor_changes", "deprecated_features"}
MAJOR = {"breaking_changes", "removed_features"}


class Refused(Exception):
    """The release cannot be made."""


def parts(version: str) -> tuple[int, int, int]:
    """The three numbers of a version.

    :raises Refused: it is not one of semantic versioning, without a suffix
    """
    found = VERSION.fullmatch(version)
    if not found:
        raise Refused(f"VERSION must be three numbers, such as 1.2.0, not {version!r}")
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


def successors(last: str | None, sections: set[str]) -> list[str]:
    """The versions that may follow a release, by what has changed since.

    :param last: the last release, if there was one
    :param sections: the sections of the fragments
    """
    if last is None:
        return ["1.0.0"]
    major, minor, patch = parts(last)
    next_major, next_minor, next_patch = f"{major + 1}.0.0", f"{major}.{minor + 1}.0", f"{major}.{minor}.{patch + 1}"
    if sections & MAJOR:
        return [next_major]
    if sections & MINOR:
        return [next_minor, next_major]
    return [next_patch, next_minor, next_major]


def with_version(text: str, pattern: str, version: str) -> str:
    """The text of a file with another version.

    :raises Refused: there is no version in it
    """
    changed, count = re.subn(pattern, rf"\g<1>{version}", text, flags=re.MULTILINE)
    if not count:
        raise Refused(f"the file must have the version where the release tool looks for it: {pattern}")
    return changed


def run(*command: str | pathlib.Path) -> str:
    """Run a program in the checkout, and return its output.

    :raises Refused: it failed
    """
    # antsibull-changelog looks for ansible-doc.
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def last_release() -> str | None:
    """The newest version of the changelog."""
    releases = yaml.safe_load((ROOT / "changelogs/changelog.yaml").read_text(encoding="utf-8"))["releases"]
    return max(releases, key=parts, default=None)


def fragment_sections() -> set[str]:
    """The sections of all fragments."""
    found = sorted((ROOT / "changelogs/fragments").glob("*.yml"))
    return {section for path in found for section in yaml.safe_load(path.read_text(encoding="utf-8"))}


def check(version: str) -> None:
    """Fail if the release cannot be made.

    :raises Refused: the tree has changes, no fragment has a summary, or the version is not the next one
    """
    changed = run("git", "status", "--porcelain", "--untracked-files=all")
    if changed:
        raise Refused(f"the checkout must have no changes. Commit or remove them first:\n{changed}")
    sections = fragment_sections()
    if "release_summary" not in sections:
        raise Refused(f"a fragment must have a release_summary for the users. Write changelogs/fragments/{version}.yml")
    parts(version)
    allowed = successors(last_release(), sections)
    if version not in allowed:
        raise Refused(
            f"after {last_release() or 'no release'}, with {', '.join(sorted(sections))}, VERSION must be one of: {', '.join(allowed)}"
        )
    if run("git", "tag", "--list", version):
        raise Refused(f"the tag {version} must not exist")
    run(BIN / "antsibull-changelog", "lint")


def make(version: str) -> None:
    """Make the release.

    :raises Refused: a step failed. `git reset --hard` takes back what was not committed
    """
    check(version)
    for place, pattern in PLACES.items():
        path = ROOT / place
        path.write_text(with_version(path.read_text(encoding="utf-8"), pattern, version), encoding="utf-8")
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    run(BIN / "antsibull-changelog", "release", "--version", version, "--date", today, "--reload-plugins")
    run("git", "add", "--all", "changelogs", "CHANGELOG.rst", *PLACES)
    run("git", "commit", "--quiet", "--message", f"Release {version}")
    run("git", "tag", "--annotate", version, "--message", f"kata.hypervisor {version}")
    run(BIN / "ansible-galaxy", "collection", "build", "--force")


def main(arguments: list[str]) -> int:
    """Check or make the release of a version."""
    actions = {"check": check, "make": make}
    if len(arguments) != 2 or arguments[0] not in actions:
        print(__doc__, file=sys.stderr)
        return 2
    action, version = arguments
    try:
        actions[action](version)
    except Refused as problem:
        print(f"no release: {problem}", file=sys.stderr)
        return 1
    if action == "make":
        print(
            f"kata-hypervisor-{version}.tar.gz is built from the tag {version}. To publish it:\n"
            f"  git push origin main {version}\n"
            f"  ansible-galaxy collection publish kata-hypervisor-{version}.tar.gz\n"
            "  make docs    # then copy build/site to a web server"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
