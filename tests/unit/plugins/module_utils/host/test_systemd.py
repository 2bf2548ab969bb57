# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of VMMs, and the services that bring sandboxes back; what systemd makes of them is tested on hosts that have one."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.delivery import boot_program
from ansible_collections.kata.hypervisor.plugins.module_utils.engine import autostart, journal
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.planner import make_plan
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.host import processes, users
from ansible_collections.kata.hypervisor.plugins.module_utils.host import systemd as supervision
from ansible_collections.kata.hypervisor.plugins.module_utils.host.spawn import spawn_detached
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context, Observed
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.common.scope import scope_command
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import Param
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout, unit_stem
from ansible_collections.kata.hypervisor.plugins.module_utils.records.record import SandboxRecord

USUAL = Context("web-1", "/run/kata-hypervisor/web-1", "/var/lib/kata-hypervisor/sandboxes/web-1")


@pytest.fixture
def systemd(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A host that systemd runs: it writes down what it is told."""
    units = tmp_path / "units"
    units.mkdir()
    told = tmp_path / "told"
    monkeypatch.setattr(autostart, "UNIT_DIRECTORY", str(units))
    for module in (supervision, autostart):
        monkeypatch.setattr(module, "has_systemd", lambda: True)
    monkeypatch.setattr(autostart, "_systemctl", lambda *words: told.open("a").write(" ".join(words) + "\n"))
    return tmp_path


def test_each_vmm_gets_a_unit_of_its_own(systemd: pathlib.Path) -> None:
    config = HypervisorConfig(supervisor="systemd", unit_properties=[Param("MemoryMax", "2G")])
    vmm = scope_command(USUAL, config)
    assert {"--scope", "--unit=kata-sandbox-web-1.scope", "--slice=kata.slice", "--property=MemoryMax=2G"} <= set(vmm)
    assert vmm[-1] == "--"
    helper = scope_command(USUAL, config, "fs-x")
    assert "--unit=kata-sandbox-web-1:fs-x.scope" in helper
    assert [word for word in helper if word.startswith("--property")] == [
        "--property=Before=kata-sandbox-web-1.service"
    ]


def test_systemd_run_is_given_no_number_that_has_no_name(
    systemd: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails for a uid that the host does not know, which those of sandboxes are."""
    user = users.own_user("web-1", users.FIRST_UID)
    words = scope_command(USUAL, HypervisorConfig(supervisor="systemd"), user=user)
    before, after = words[: words.index("--")], words[words.index("--") + 1 :]
    assert not [word for word in before if str(user.uid) in word]
    assert after == [shutil.which("setpriv"), f"--reuid={user.uid}", f"--regid={user.gid}", "--keep-groups", "--"]
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(HostError, match="setpriv must be installed"):
        scope_command(USUAL, HypervisorConfig(supervisor="systemd"), user=user)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_the_user_changes_within_the_unit(systemd: pathlib.Path, tmp_path: pathlib.Path) -> None:
    user = users.own_user("web-1", users.FIRST_UID)
    words = scope_command(USUAL, HypervisorConfig(supervisor="systemd"), user=user)
    late = [os.path.realpath("/bin/sh"), "-c", 'sleep 0.1; exec "$@"', "sh", *words[words.index("--") + 1 :]]
    child = spawn_detached(["/bin/sleep", "60"], str(tmp_path / "log"), wrapper=late, user=user)
    try:
        identity = processes.identify(child.pid)
        assert identity is not None and identity.executable == os.path.realpath("/bin/sleep")
        status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
        for name in ("Uid", "Gid"):
            assert re.search(rf"^{name}:(\s+{user.uid}){{4}}$", status, re.MULTILINE), status
        assert re.search(rf"^Groups:\s+{user.gid}\s*$", status, re.MULTILINE) and re.search(
            r"^CapPrm:\s+0+$", status, re.MULTILINE
        ), status
    finally:
        child.kill()
        child.wait()


def test_sandboxes_of_other_directories_do_not_share_a_unit() -> None:
    names = {unit_stem(SandboxLayout("web", root, "/run/x")) for root in ("/a", "/b", "/var/lib/kata-hypervisor")}
    assert len(names) == 3
    assert "kata-sandbox-web" not in names


def test_no_supervisor_no_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scope_command(USUAL, HypervisorConfig(supervisor="none")) == []
    monkeypatch.setattr(supervision, "has_systemd", lambda: False)
    assert scope_command(USUAL, HypervisorConfig(supervisor="auto")) == []
    with pytest.raises(HostError, match="systemd must be the host's init system"):
        scope_command(USUAL, HypervisorConfig(supervisor="systemd"))


@pytest.mark.parametrize(
    "word", [Param("-bad", "1"), Param("MemoryMax", "1\nExecStart=x"), Param("Memory Max", "1"), Param("bad", "")]
)
def test_what_is_no_property_is_refused(systemd: pathlib.Path, word: Param) -> None:
    with pytest.raises(ConfigError, match="must be NAME=VALUE"):
        scope_command(USUAL, HypervisorConfig(supervisor="systemd", unit_properties=[word]))


# --- a program that becomes another ------------------------------------------------------------------------------------


def test_a_process_is_known_by_the_program_it_ends_in(tmp_path: pathlib.Path) -> None:
    late = [os.path.realpath("/bin/sh"), "-c", 'sleep 0.1; exec "$@"', "sh"]
    child = spawn_detached([sys.executable, "-c", "import time; time.sleep(60)"], str(tmp_path / "log"), wrapper=late)
    try:
        identity = processes.identify(child.pid)
        assert identity is not None
        assert identity.executable == os.path.realpath(sys.executable)
        time.sleep(0.1)
        assert identity.is_alive()
    finally:
        child.kill()
        child.wait()


def test_a_unit_that_is_still_going_away_is_waited_for(tmp_path: pathlib.Path) -> None:
    gone = tmp_path / "gone"
    script = f'[ -e {gone} ] || {{ touch {gone}; echo "Unit x.scope was already loaded" >&2; exit 1; }}; exec "$@"'
    child = spawn_detached(
        ["/bin/sleep", "60"], str(tmp_path / "log"), wrapper=[os.path.realpath("/bin/sh"), "-c", script, "sh"]
    )
    assert child.poll() is None
    child.kill()
    child.wait()


def test_a_supervisor_that_says_no_is_not_asked_again(tmp_path: pathlib.Path) -> None:
    script = f'echo x >>{tmp_path}/asked; echo "Unknown assignment" >&2; exit 1'
    child = spawn_detached(
        ["/bin/sleep", "60"], str(tmp_path / "log"), wrapper=[os.path.realpath("/bin/sh"), "-c", script]
    )
    assert child.wait() == 1
    assert (tmp_path / "asked").read_text() == "x\n"


# --- services ----------------------------------------------------------------------------------------------------------


def test_a_service_is_made_once_and_removed_whole(systemd: pathlib.Path) -> None:
    service = autostart.Service(SandboxLayout("web", str(systemd / "state"), str(systemd / "run")))
    assert not service.exists()
    service.enable()
    assert service.in_place()
    assert os.path.realpath(service.link) == service.path
    with open(service.path, "a") as unit:
        unit.write("# edited\n")
    assert service.exists()
    assert not service.in_place()
    service.enable()
    assert service.in_place()
    service.disable()
    assert not service.exists()
    assert [path.name for path in (systemd / "state/lib").iterdir()] == [".lock"]


def test_a_program_stays_while_a_service_names_it(systemd: pathlib.Path) -> None:
    old = systemd / "state/lib/0.9.0-abc/kata-hypervisor.pyz"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    (systemd / "units/kata-sandbox-other.service").write_text(f'ExecStart="{old}"\n')
    service = autostart.Service(SandboxLayout("web", str(systemd / "state"), str(systemd / "run")))
    service.enable()
    assert old.exists()
    (systemd / "units/kata-sandbox-other.service").unlink()
    service.enable()
    assert not old.exists()
    assert service.in_place()


def test_the_program_is_the_same_from_a_payload_and_from_a_copy_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    # A task's payload has an empty file for the package itself, where a copy of the files has none.
    read = boot_program._read_module_utils
    without = boot_program.program_path("/state")
    monkeypatch.setattr(boot_program, "_read_module_utils", lambda path: b"" if path == "__init__.py" else read(path))
    assert boot_program.program_path("/state") == without


def test_a_log_is_copied_into_the_journal_of_the_unit(systemd: pathlib.Path) -> None:
    command = journal.log_command(SandboxLayout("web"), 42, "/run/x/vmm.log", 100)
    assert "--unit=kata-sandbox-web:log-42.service" in command
    assert "--property=BindsTo=kata-sandbox-web.scope" in command
    assert "--property=LogExtraFields=OBJECT_SYSTEMD_UNIT=kata-sandbox-web.scope" in command
    assert command[-4:] == [supervision.shutil.which("tail"), "--bytes=+101", "--follow=descriptor", "/run/x/vmm.log"]


def test_only_the_log_that_the_vmm_has_open_gets_into_the_journal(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "vmm.log"
    child = spawn_detached(["/bin/sleep", "60"], str(log))
    try:
        tmp_path.chmod(0o770)
        path = journal.log_of(child.pid, str(log))
        assert path.startswith(f"/proc/{child.pid}/fd/") and os.path.samefile(path, log)
        tmp_path.chmod(0o710)
        assert journal.log_of(child.pid, str(log)) == str(log), "where nobody else can exchange it"
        log.rename(tmp_path / "kept")
        log.symlink_to("/etc/shadow")
        assert journal.log_of(child.pid, str(log)) == ""
        log.unlink()
        log.write_text("another one")
        assert journal.log_of(child.pid, str(log)) == ""
    finally:
        child.kill()
        child.wait()


def test_the_program_runs_without_ansible_and_converges(tmp_path: pathlib.Path) -> None:
    program = tmp_path / "kata-hypervisor.pyz"
    program.write_bytes(boot_program.program_bytes())
    assert boot_program.program_bytes() == program.read_bytes()
    layout = SandboxLayout("web", str(tmp_path / "state"), str(tmp_path / "run"))
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"kernel")
    options = {"kernel_path": str(kernel), "initrd_path": str(kernel)}
    spec = SandboxSpec("web", "started", "mock", options, state_dir=layout.state_root, run_dir=layout.run_root)
    converge(spec)
    for operation, words in (("start", "no change"), ("stop", "no change")):
        done = subprocess.run(
            [sys.executable, "-I", str(program), operation, "web", layout.state_root, layout.run_root],
            capture_output=True,
            text=True,
            check=True,
        )
        assert words in done.stdout
    missing = subprocess.run(
        [sys.executable, "-I", str(program), "start", "other", "/x", "/y"], capture_output=True, check=True
    )
    assert missing.stdout == b""


# --- planning ----------------------------------------------------------------------------------------------------------


def test_a_service_comes_last_and_goes_first() -> None:
    started = SandboxRecord("web", "mock", {"autostart": True}, desired="started")
    plan = make_plan(SandboxSpec("web", "started", "mock", {"autostart": True}), None, Observed())
    assert [step.name for step in plan.steps] == ["create", "start", "autostart"]
    running = Observed(power="running", autostart=True)
    plan = make_plan(SandboxSpec("web", options={"autostart": False}), started, running)
    assert [step.name for step in plan.steps] == ["autostart", "update"]
    assert make_plan(SandboxSpec("web", options={"autostart": True}), started, running).steps == []


def test_a_service_that_somebody_removed_comes_back() -> None:
    record = SandboxRecord("web", "mock", {"autostart": True}, desired="started")
    plan = make_plan(SandboxSpec("web"), record, Observed(power="running"))
    assert [step.name for step in plan.steps] == ["autostart"]


def test_autostart_without_systemd_is_refused_before_anything_changed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autostart, "has_systemd", lambda: False)
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"kernel")
    options = {"kernel_path": str(kernel), "initrd_path": str(kernel), "autostart": True}
    spec = SandboxSpec(
        "web", "started", "mock", options, state_dir=str(tmp_path / "state"), run_dir=str(tmp_path / "run")
    )
    for check_mode in (True, False):
        with pytest.raises(HostError, match="autostart needs systemd"):
            converge(spec, check_mode)
    assert not (tmp_path / "state/sandboxes/web").exists()
