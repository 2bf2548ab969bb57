# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages for operators, carried out: the example inventory with the playbooks, and every line of docs/ad-hoc.md.

The collection is installed from its tarball, as users have it; the hosts of the example are fresh ones that have nothing but ssh and Python. The steps build
on each other, so they are one test.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.checkout import ROOT

FLEET = ROOT / "tests/hosts/fleet.py"
EXAMPLE = ROOT / "docs/example-inventory"
BIN = pathlib.Path(sys.executable).parent
HOSTS = ["host1.example.com", "host2.example.com", "host3.example.com"]
#: host, id and vCPUs, as the example's group and host variables come to.
EXPECTED = {
    ("host1.example.com", "proxy", "1"),
    ("host1.example.com", "server", "2"),
    ("host2.example.com", "proxy", "1"),
    ("host2.example.com", "server", "4"),
    ("host3.example.com", "worker-1", "1"),
    ("host3.example.com", "worker-2", "1"),
}

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("systemd-nspawn") or not shutil.which("mmdebstrap"),
    reason="needs root, systemd-nspawn and mmdebstrap",
)


class Operator:
    """Somebody with the collection installed and the example inventory."""

    def __init__(self, work: pathlib.Path, inventory: pathlib.Path) -> None:
        self.work = work
        self.inventories = ["-i", str(EXAMPLE), "-i", str(inventory)]
        configuration = work / "ansible.cfg"
        configuration.write_text("[defaults]\nforks = 4\n[ssh_connection]\npipelining = true\n")
        self.environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(configuration),
            "ANSIBLE_COLLECTIONS_PATH": str(work / "collections"),
            "ANSIBLE_HOME": str(work / "home"),
            "ANSIBLE_NOCOLOR": "1",
        }
        self.must("ansible-galaxy", "collection", "build", str(ROOT), "--output-path", str(work))
        [tarball] = work.glob("kata-hypervisor-*.tar.gz")
        self.must("ansible-galaxy", "collection", "install", "--offline", str(tarball), "-p", str(work / "collections"))

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / program), *arguments],
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def must(self, program: str, *arguments: str) -> str:
        done = self.run(program, *arguments)
        assert done.returncode == 0, f"{program} {arguments}\n{done.stdout[-6000:]}"
        return done.stdout

    def play(self, name: str, *arguments: str) -> dict[str, int]:
        """Run a playbook; how many tasks changed something, by host."""
        self.said = self.must("ansible-playbook", *self.inventories, f"kata.hypervisor.{name}", *arguments)
        return {
            host: int(number) for host, number in re.findall(r"^(host\S+) +: .* changed=(\d+)", self.said, re.MULTILINE)
        }

    def table(self, *arguments: str) -> list[list[str]]:
        """The rows of the status playbook's table."""
        self.play("status", *arguments)
        return [row.split() for row in re.findall(r'"(host\d\.\S+ +[^"]*)"', self.said)]

    def ask(self, host: str, module: str, arguments: str) -> dict:
        """Run one module on one host; its result."""
        return json.loads(
            self.must("ansible", *self.inventories, host, "-m", module, "-a", arguments).partition("=> ")[2]
        )

    def sandbox(self, name: str) -> dict:
        """What the first host tells of a sandbox."""
        return self.ask(HOSTS[0], "kata.hypervisor.kata_sandbox_info", f"ids={name}")["sandboxes"][0]


@pytest.fixture
def operator(tmp_path: pathlib.Path) -> Iterator[Operator]:
    directory = tmp_path / "fleet"
    subprocess.run([sys.executable, str(FLEET), "up", str(directory), *HOSTS], check=True)
    try:
        yield Operator(tmp_path, directory / "inventory.yml")
    finally:
        subprocess.run([sys.executable, str(FLEET), "down", str(directory)], check=True)
    assert not directory.exists()


def ad_hoc_lines() -> list[list[str]]:
    """The commands of the page, each in words."""
    lines = re.findall(r"^    (ansible.*)$", (ROOT / "docs/ad-hoc.md").read_text(), re.MULTILINE)
    assert len(lines) > 10
    return [shlex.split(line) for line in lines]


def carry_out_the_page(operator: Operator) -> None:
    """Every line of docs/ad-hoc.md, on a host that has a sandbox named web."""
    foretold = ""
    for program, *words in ad_hoc_lines():
        before = operator.sandbox("web") if "--check" in words else None
        said = operator.must(program, *operator.inventories, "--limit", HOSTS[0], *words)
        if before:
            foretold += said
            assert operator.sandbox("web") == before
    assert re.search(r'^-\s+"vcpus": 1\n\+\s+"vcpus": 2', foretold, re.MULTILINE)
    web = operator.sandbox("web")
    assert (web["state"], web["vcpus"]) == ("started", 2)


@pytest.mark.long
def test_the_example_inventory_and_the_page_of_single_lines(operator: Operator) -> None:
    # What the inventory says is there, once; the guests say so too.
    assert all(changed > 0 for changed in operator.play("site").values())
    # A host of each group is enough for what costs three hosts a minute; their roles are the same.
    one, two, three = HOSTS
    assert operator.play("site", "--limit", f"{one},{three}") == {one: 0, three: 0}
    assert operator.play("site", "--check", "--diff", "--limit", two) == {two: 0}
    rows = operator.table()
    assert {(row[0], row[1], row[4]) for row in rows} == EXPECTED
    assert all(row[6].startswith("10.61.0.") for row in rows)
    assert {row[7] for row in rows if row[1] == "proxy"} == {"8080:80"}
    assert {(row[2], row[3]) for row in rows} == {("qemu", "started")}
    assert {row[1]: row[5] for row in rows}["worker-1"] == "1024"
    said = {
        "path": "/run/kata-hypervisor/server/console.log",
        "search_regex": "kata-guest: ready nproc=4 ",
        "timeout": 60,
    }
    operator.ask(HOSTS[1], "ansible.builtin.wait_for", json.dumps(said))

    # A query chooses; a stop that is only tried changes nothing and says what it would do.
    assert [row[1] for row in operator.table("-e", json.dumps({"kata_query": "[?vcpus>`2`]"}))] == ["server"]
    assert operator.play("stop", "--check", "--diff") == dict.fromkeys(HOSTS, 1)
    assert len(re.findall(r'^-\s+"state": "started"', operator.said, re.MULTILINE)) == len(EXPECTED)
    assert {row[3] for row in operator.table()} == {"started"}

    # The page of single lines, on a host whose sandbox is called as the page says.
    kernel = operator.sandbox("server")["options"]
    wish = {
        "id": "web",
        "state": "started",
        "memory_mb": 192,
        "max_vcpus": 2,
        **{name: kernel[name] for name in ("kernel_path", "initrd_path")},
    }
    assert operator.ask(HOSTS[0], "kata.hypervisor.kata_sandbox", json.dumps(wish))["changed"]
    carry_out_the_page(operator)

    # And all of it goes again.
    assert (
        operator.run(
            "ansible-playbook", *operator.inventories, "kata.hypervisor.teardown", "-e", "confirm=no"
        ).returncode
        != 0
    )
    unasked = operator.run("ansible-playbook", *operator.inventories, "kata.hypervisor.teardown", "--limit", HOSTS[2])
    assert unasked.returncode != 0 and "it needs -e confirm=yes" in unasked.stdout
    assert len(operator.table()) == len(EXPECTED) + 1
    gone = operator.play("teardown", "-e", "confirm=yes", "--limit", f"{one},{three}")
    assert list(gone) == [one, three] and all(changed > 0 for changed in gone.values())
    kept = operator.ask(HOSTS[0], "kata.hypervisor.kata_volume_info", "state_dir=/var/lib/kata-hypervisor")["volumes"]
    assert [volume["name"] for volume in kept] == ["proxy-cache", "server-data"]
    assert (
        operator.ask(HOSTS[2], "kata.hypervisor.kata_volume_info", "state_dir=/var/lib/kata-hypervisor")["volumes"]
        == []
    )
    # The second host loses everything at once.
    everything = ("-e", "confirm=yes", "-e", "remove_volumes=yes", "--limit")
    gone = operator.play("teardown", *everything, f"{one},{two}")
    assert list(gone) == [one, two] and all(changed > 0 for changed in gone.values())
    assert operator.play("teardown", *everything, two) == {two: 0}
    assert operator.table() == []
    places = (
        "paths=/var/lib/kata-hypervisor,/run/kata-hypervisor,/usr/bin,/etc/systemd/system recurse=true file_type=any"
    )
    for host in HOSTS:
        left = operator.ask(
            host, "ansible.builtin.find", f"{places} patterns=vmlinuz*,*.img,qemu-system*,web,server,kata-sandbox-*"
        )
        assert left["files"] == []
