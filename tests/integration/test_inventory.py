# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin over real connections: a local host, one through a real sshd, and one that does not answer."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any, Iterator

import pytest

from tests.support.ansible_programs import ansible
from tests.support.checkout import ROOT
from tests.support.loopback_sshd import Sshd, free_port, loopback_sshd
from tests.support.mock_lab import BOOT, MockLab

BIN = pathlib.Path(sys.executable).parent
CONTROLLER = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}


class Fleet:
    """An inventory with three hosts: `here`, `kvm-1` over ssh, and `gone`, where nobody listens.

    :param directory: the inventory's
    :param labs: the sandboxes of the hosts that answer
    """

    def __init__(self, directory: pathlib.Path, labs: dict[str, MockLab], sshd: Sshd) -> None:
        self.directory = directory
        self.labs = labs
        self.sshd = sshd
        self.directory.mkdir()
        self.write_hosts(gone=free_port())

    def write_hosts(self, **ports: int) -> None:
        """Write the hosts. One with a port is reached there."""
        hosts: dict[str, Any] = {"here": CONTROLLER, "kvm-1": self.sshd.variables()}
        for name, lab in self.labs.items():
            hosts[name] = {**hosts[name], **{f"kata_sandbox_{key}": path for key, path in lab.directories().items()}}
        for name, port in ports.items():
            hosts[name] = {**self.sshd.variables(), **hosts.get(name, {}), "ansible_port": port}
        groups = {"kvm": {"hosts": hosts}}
        (self.directory / "hosts.json").write_text(json.dumps({"all": {"children": groups}}))

    def write_source(self, **options: Any) -> None:
        """Write the source of the plugin. JSON is YAML too."""
        (self.directory / "sandboxes.yml").write_text(json.dumps({"plugin": "kata.hypervisor.sandboxes", **options}))

    def run(self, program: str, *words: str, **environment: str) -> str:
        """Run a program of Ansible with this inventory."""
        return ansible(program, "-i", str(self.directory), *words, ANSIBLE_HOST_KEY_CHECKING="0", **environment)

    def listed(self, **environment: str) -> dict[str, Any]:
        """The inventory that ansible-inventory prints."""
        printed = self.run("ansible-inventory", "--list", **environment)
        text = printed[printed.index("{\n") : printed.rindex("}") + 1]
        listed: dict[str, Any] = json.loads(text, object_hook=lambda entry: entry.get("__ansible_unsafe", entry))
        return listed


@pytest.fixture(scope="module", name="fleet")
def fixture_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    work, keys = tmp_path_factory.mktemp("fleet"), tmp_path_factory.mktemp("sshd")
    labs = {name: MockLab(work / name) for name in ("here", "kvm-1")}
    port = free_port()
    for name, lab in labs.items():
        lab.options = BOOT
        lab.start("web-1", labels={"tier": "web", "note": "{{ 6 * 7 }}"})
        lab.start(f"db-of-{name}", labels={"tier": "db"}, state="stopped")
    # Its ssh server is the real one, which begins to listen later.
    labs["kvm-1"].start("guest", network="user", ports=[f"{port}:22"])
    with loopback_sshd(keys, port) as sshd:
        yield Fleet(work / "inventory", labs, sshd)


def test_sandboxes_of_all_hosts_are_hosts(fleet: Fleet) -> None:
    fleet.write_source(
        compose={"tier": "kata_sandbox.labels.tier"},
        keyed_groups=[{"key": "kata_sandbox.labels.tier", "prefix": "kind"}],
        groups={"off": "kata_sandbox.state == 'stopped'"},
        filters=[{"exclude": "kata_sandbox_id == 'guest'"}],
    )
    listed = fleet.listed()
    members = {name: sorted(group["hosts"]) for name, group in listed.items() if "hosts" in group}
    every = ["db-of-here", "db-of-kvm-1", "web-1.here", "web-1.kvm-1"]
    assert members["sandboxes"] == members["hypervisor_mock"] == every
    assert members["state_started"] == members["label_tier_web"] == members["kind_web"] == every[2:]
    assert members["state_stopped"] == members["off"] == members["sandbox_db_of_here"] + members["sandbox_db_of_kvm"]
    assert members["host_kvm_1"] == ["db-of-kvm-1", "web-1.kvm-1"]
    variables = listed["_meta"]["hostvars"]["web-1.kvm-1"]
    assert variables["ansible_connection"] == "kata.hypervisor.sandbox"
    assert (variables["kata_sandbox_id"], variables["kata_sandbox_host"]) == ("web-1", "kvm-1")
    assert variables["kata_sandbox"]["labels"] == {"note": "{{ 6 * 7 }}", "tier": "web"}
    assert variables["kata_sandbox_run_dir"] == fleet.labs["kvm-1"].directories()["run_dir"]
    assert variables["tier"] == "web"


def test_what_a_host_tells_is_no_template_and_the_variables_of_the_host_are(fleet: Fleet) -> None:
    fleet.write_source(selector="tier=web")
    message = "{{ kata_sandbox.labels.note }} {{ kata_sandbox_host_vars.ansible_port | default('none') }}"
    printed = fleet.run("ansible", "label_tier_web", "-m", "debug", "-a", f"msg={message!r}")
    assert f'"msg": "{{{{ 6 * 7 }}}} {fleet.sshd.port}"' in printed
    assert '"msg": "{{ 6 * 7 }} none"' in printed
    assert "db-of-here" not in fleet.run("ansible-inventory", "--graph")


#: In namespaces with empty directories in the place of the machine's own sandboxes.
SELECTED = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /run
run() { program=$1; shift; "$BIN/$program" -i localhost, -c local -e ansible_python_interpreter=/usr/bin/python3 "$@"; }
run ansible localhost -m kata.hypervisor.kata_sandboxes -a "$SANDBOXES"
run ansible-playbook kata.hypervisor.pause -e 'selector=tier=web,!old'
run ansible-playbook kata.hypervisor.status -e 'selector=tier'
run ansible-playbook kata.hypervisor.teardown -e confirm=yes -e selector=tier=db
echo AFTERWARDS
run ansible-playbook kata.hypervisor.status
"""


def test_playbooks_select_by_label() -> None:
    labels = {"web": {"tier": "web"}, "old": {"tier": "web", "old": ""}, "db": {"tier": "db"}, "plain": {}}
    sandboxes = [{"id": name, "hypervisor": "mock", **BOOT, "labels": one} for name, one in labels.items()]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", SELECTED],
        cwd=ROOT,
        env={**os.environ, "BIN": str(BIN), "SANDBOXES": json.dumps({"sandboxes": sandboxes}), "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    before, _line, after = done.stdout.partition("\nAFTERWARDS\n")
    assert re.findall(r"(?m)^localhost +(\w+) +mock +(\w+) .* (\S*=\S*) +\d+[smhd]$", before) == [
        ("db", "started", "tier=db"),
        ("old", "started", "old=,tier=web"),
        ("web", "paused", "tier=web"),
    ]
    # Only what was selected is removed, and nothing else of the host.
    assert re.findall(r"(?m)^localhost +(\w+) +mock +(\w+) ", after) == [
        ("old", "started"),
        ("plain", "started"),
        ("web", "paused"),
    ]


def test_a_host_that_does_not_answer_is_in_the_cache(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    cache = {
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(tmp_path),
        "cache_timeout": 1,
    }
    fleet.write_source(**cache)
    printed = fleet.run("ansible-inventory", "--graph")
    assert "Host gone did not tell its sandboxes" in printed and "Its sandboxes are missing" in " ".join(
        printed.split()
    )
    assert "db-of-kvm-1" in printed
    # From now on the host is away. The answers in the cache are too old, and those of the other host are new.
    fleet.write_hosts(**{"gone": free_port(), "kvm-1": free_port()})
    for kept in tmp_path.iterdir():
        stamp = kept.stat().st_mtime - 3600
        os.utime(kept, (stamp, stamp))
    fleet.labs["here"].run("db-of-here", state="absent")
    try:
        listed = fleet.listed()
        assert "db-of-kvm-1" in listed["sandboxes"]["hosts"] and "db-of-here" not in listed["sandboxes"]["hosts"]
        hostvars = listed["_meta"]["hostvars"]
        assert hostvars["db-of-kvm-1"]["kata_sandbox_stale"] is True
        assert "kata_sandbox_stale" not in hostvars["web-1.here"]
    finally:
        fleet.write_hosts(gone=free_port())
        fleet.labs["here"].start("db-of-here", labels={"tier": "db"}, state="stopped")


def test_ssh_through_the_host(fleet: Fleet) -> None:
    fleet.write_source(
        connection="ssh",
        compose={"ansible_ssh_private_key_file": f"'{fleet.sshd.key}'", "ansible_user": "'root'"},
    )
    printed = fleet.run("ansible", "guest", "-m", "raw", "-a", "echo $SSH_CONNECTION", "-vvvv")
    assert f"127.0.0.1 {fleet.sshd.port}" in printed
    # The host was the jump host, and told ssh where to go.
    assert f"ProxyCommand=ssh -p {fleet.sshd.port} -l root" in printed
    # A sandbox that ssh has no way to is reached through its agent.
    assert fleet.listed()["_meta"]["hostvars"]["db-of-here"]["ansible_connection"] == "kata.hypervisor.sandbox"


def test_the_example_of_the_page(fleet: Fleet) -> None:
    page = (ROOT / "docs/inventory.md").read_text(encoding="utf-8")
    example = page.partition("```yaml\n")[2].partition("```")[0]
    assert "plugin: kata.hypervisor.sandboxes" in example
    fleet.labs["here"].run("web-1", labels={"tier": "web", "owner": "ada"})
    fleet.labs["kvm-1"].run("web-1", labels={"tier": "web", "scratch": "yes"})
    (fleet.directory / "sandboxes.yml").write_text(example)
    printed = fleet.run("ansible-inventory", "--graph")
    assert "--@owner_ada:\n  |  |--web-1\n" in printed
    assert "--@owner_nobody:\n  |  |--db-of-here\n" in printed
    # The other one has the label scratch, so the name is this one's alone.
    assert "web-1.kvm-1" not in printed


def test_processes_of_tasks_find_the_connection_plugin_compiled(tmp_path: pathlib.Path) -> None:
    """Ansible keeps no compiled files of collections. What is loaded before it forks, no task compiles again."""
    source = tmp_path / "sandboxes.yml"
    source.write_text(json.dumps({"plugin": "kata.hypervisor.sandboxes"}))
    program = f"""
import builtins, json
from ansible.plugins.loader import connection_loader, init_plugin_loader, inventory_loader
init_plugin_loader()
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible_collections.kata.hypervisor.plugins.plugin_utils.sandbox_hosts import SandboxHost

plugin = inventory_loader.get("kata.hypervisor.sandboxes")
plugin._sandboxes = lambda path, cache: [SandboxHost("here", {{"id": "web", "state": "started"}}, False)]
compiled, compile = [], builtins.compile

def counted(*values, **named):
    compiled.append(str(named.get("filename", values[1] if len(values) > 1 else "")))
    return compile(*values, **named)

builtins.compile = counted
for work in (lambda: plugin.parse(InventoryData(), DataLoader(), {str(source)!r}),
             lambda: connection_loader.get("kata.hypervisor.sandbox", class_only=True)):
    work()
    print(json.dumps([name for name in compiled if name.endswith(".py")]))
    compiled.clear()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    before, task = (json.loads(line) for line in done.stdout.splitlines())
    assert [name for name in before if name.endswith("plugins/connection/sandbox.py")]
    assert task == []
