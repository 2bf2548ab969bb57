# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection from its tarball, as its user has it: a virtual environment with ansible-core alone, an empty home, and nothing of the checkout."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from typing import Optional

import pytest
import yaml

from tests.support.ansible_programs import ansible
from tests.support.checkout import ROOT
from tests.support.loopback_sshd import free_port

BIN = pathlib.Path(sys.executable).parent
#: Kinds of plugins with documentation, and where they are.
KINDS = {
    "module": "plugins/modules/*.py",
    "filter": "plugins/filter/*.py",
    "connection": "plugins/connection/*.py",
    "inventory": "plugins/inventory/*.py",
    "role": "roles/*",
}
#: What the quickstart writes, beside packages of the distribution.
DIRECTORIES = ("/var/lib/kata-hypervisor", "/run/kata-hypervisor")


class User:
    """Somebody who has the tarball in an empty home."""

    def __init__(self, home: pathlib.Path) -> None:
        self.home = home
        ansible("ansible-galaxy", "collection", "build", "--output-path", str(home))
        (tarball,) = home.glob("kata-hypervisor-*.tar.gz")
        self.tarball = tarball.name
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))},
            "HOME": str(home),
            "PATH": f"{home}/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        uv = shutil.which("uv", path=f"{BIN}:{os.environ['PATH']}")
        assert uv, "uv is in requirements-dev.txt"
        core = importlib.metadata.version("ansible-core")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(home / "venv")], check=True)
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", f"{home}/venv/bin/python", f"ansible-core=={core}"],
            check=True,
        )

    def run(self, *words: str, code: int = 0, directory: Optional[pathlib.Path] = None) -> str:
        """What a command printed."""
        done = subprocess.run(
            words,
            cwd=directory or self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{shlex.join(words)}\n{done.stdout[-6000:]}"
        return done.stdout

    @property
    def collection(self) -> pathlib.Path:
        """The installed collection."""
        return self.home / ".ansible/collections/ansible_collections/kata/hypervisor"


@pytest.fixture(scope="module", name="user")
def fixture_user(tmp_path_factory: pytest.TempPathFactory) -> User:
    made = User(tmp_path_factory.mktemp("user"))
    made.run("ansible-galaxy", "collection", "install", made.tarball)
    return made


def test_what_is_installed_can_be_verified(user: User) -> None:
    verify = ("ansible-galaxy", "collection", "verify", "--offline", "kata.hypervisor")
    assert "Successfully verified" in user.run(*verify)
    changed = user.collection / "plugins/modules/kata_sandbox.py"
    before = changed.read_bytes()
    changed.write_bytes(before + b"\n")
    try:
        assert "plugins/modules/kata_sandbox.py" in user.run(*verify, code=1)
    finally:
        changed.write_bytes(before)


def test_nothing_of_the_development_is_installed(user: User) -> None:
    development = (
        "Makefile",
        "ansible.cfg",
        "noxfile.py",
        "tests",
        "tools",
        "requirements-test.txt",
        ".ci",
        ".collections",
    )
    assert [name for name in development if list(user.collection.rglob(name))] == []


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_documented(user: User, kind: str) -> None:
    names = [f"kata.hypervisor.{path.stem}" for path in sorted(ROOT.glob(KINDS[kind]))]
    said = user.run("ansible-doc", "-t", kind, "--json", *names)
    # ansible-core 2.21 warns about a collection of its own.
    assert [line for line in said.splitlines() if line.startswith(("[ERROR]", "[WARNING]")) and "kata" in line] == []
    assert sorted(json.loads(said[said.index("{") :])) == names


def test_every_playbook_is_found_by_its_name(user: User) -> None:
    names = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
    said = user.run("ansible-playbook", "--syntax-check", *(f"kata.hypervisor.{name}" for name in names))
    assert re.findall(rf"^playbook: {user.collection}/playbooks/(\w+)\.yml$", said, re.MULTILINE) == names
    assert "[ERROR]" not in said


def test_an_execution_environment_can_be_prepared(user: User, tmp_path: pathlib.Path) -> None:
    """By the file on the page: the context of the build, and those steps of the build that need no container."""
    if not (BIN / "ansible-builder").exists():
        pytest.skip("ansible-builder is not installed")
    page = (ROOT / "docs/versions.md").read_text(encoding="utf-8")
    (definition,) = re.findall(r"^```yaml\n(# execution-environment.yml\n.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "execution-environment.yml").write_text(definition)
    shutil.copy(user.home / user.tarball, tmp_path)
    user.run(str(BIN / "ansible-builder"), "create", directory=tmp_path)
    context = tmp_path / "context/_build"
    install = ("ansible-galaxy", "collection", "install", "--force", "-r", "requirements.yml", "--collections-path")
    user.run(*install, str(tmp_path / "collections"), directory=context)
    said = user.run(
        str(BIN / "python"), "scripts/introspect.py", "introspect", str(tmp_path / "collections"), directory=context
    )
    needed = yaml.safe_load(said.partition("---\n")[2])
    assert [line.split()[0] for line in needed["python"]] == ["jmespath"]
    assert {line.split()[0] for line in needed["system"]} == {"openssh-client", "openssh-clients"}


def five_minutes() -> list[str]:
    """The commands in the README's first chapter, without those for a clone."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    chapter = text.partition("## Five minutes\n")[2].partition("**From a clone**")[0]
    return re.findall(r"^    ((?:ansible|curl).*)$", chapter, re.MULTILINE)


#: What the README shows as the page of the web server; the image decides how much is free.
HELLO = re.compile(r"Hello from demo-web, which has [\d.]+G free on its disk")


@pytest.mark.long
def test_the_first_five_minutes(user: User) -> None:
    """Every command of the README's first chapter, with real QEMU. It has an empty state of its own, and free ports."""
    assert os.geteuid() == 0
    web, ssh = free_port(), free_port()
    commands = five_minutes()
    assert commands[0].startswith("ansible-galaxy collection install ") and commands[-1].endswith("--tags remove")
    assert any("quickstart --tags converge" in command for command in commands)
    looks = [
        "ansible-playbook -i localhost, -c local kata.hypervisor.status",
        "ansible-playbook -i localhost, -c local kata.hypervisor.report -e page=report.html -e json=report.json -e metrics=report.prom",
    ]
    own_ports = f" -e quickstart_web_port={web} -e quickstart_ssh_port={ssh}"
    commands = [
        re.sub(r"(kata\.hypervisor\.quickstart)", rf"\1{own_ports}", command).replace(":8080", f":{web}")
        for command in [*commands[:-1], *looks, commands[-1]]
    ]
    remove = shlex.join(shlex.split(commands[-1]))
    script = [
        *(f"mkdir -p {path}; mount -t tmpfs -o mode=0755 tmpfs {path}" for path in DIRECTORIES),
        f"trap '{remove} >&2' EXIT",
        *(f"echo '== {command}'; {command} </dev/null" for command in commands),
        'test -z "$(ls /var/lib/kata-hypervisor/sandboxes)"',
    ]
    said = user.run("unshare", "--mount", "bash", "-euc", "\n".join(script))
    parts = dict(part.split("\n", 1) for part in re.split(r"^== ", said, flags=re.MULTILINE)[1:])
    assert list(parts) == commands
    (page,) = [output for command, output in parts.items() if command.startswith("curl")]
    assert HELLO.search(page) and HELLO.search((ROOT / "README.md").read_text(encoding="utf-8"))
    for command in commands:
        if "kata_sandbox " in command:
            assert "CHANGED" in parts[command], command
    table = parts[looks[0]]
    assert all(re.search(rf"\b{name}\b.* started ", table) for name in ("demo-web", "demo-2", "demo-3")), table
    assert "demo-1" not in table
    assert {one["id"] for one in json.loads((user.home / "report.json").read_text())["sandboxes"]} == {
        "demo-web",
        "demo-2",
        "demo-3",
    }
    assert "demo-web" in (user.home / "report.html").read_text() and (user.home / "report.prom").read_text()
