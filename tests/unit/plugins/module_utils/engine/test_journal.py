# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VMM's log in the journal of its unit."""

from __future__ import annotations

import os
import pathlib
import shutil

from ansible_collections.kata.hypervisor.plugins.module_utils.engine import journal
from ansible_collections.kata.hypervisor.plugins.module_utils.host.spawn import spawn_detached
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout


def test_a_log_is_copied_into_the_journal_of_the_unit() -> None:
    command = journal.log_command(SandboxLayout("web"), 42, "/run/x/vmm.log", 100)
    assert "--unit=kata-sandbox-web:log-42.service" in command
    assert "--property=BindsTo=kata-sandbox-web.scope" in command
    assert "--property=LogExtraFields=OBJECT_SYSTEMD_UNIT=kata-sandbox-web.scope" in command
    assert command[-4:] == [shutil.which("tail"), "--bytes=+101", "--follow=descriptor", "/run/x/vmm.log"]


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
