# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of files, and sandboxes that start from no other files than those that their digests name."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge, start_at_boot
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import converge_template
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError, HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.host import digests
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.common import boot_files
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_spec, parse_template_spec
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import DIGESTS, HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec

LARGE = b"kernel" * 300_000


def _sha(content: bytes, algorithm: str = "sha512") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


class Host:
    """A host with a kernel and an initrd."""

    def __init__(self, root: pathlib.Path) -> None:
        (root / "boot").mkdir(mode=0o755)
        self.kernel, self.initrd = root / "boot/kernel", root / "boot/initrd"
        self.kernel.write_bytes(LARGE)
        self.initrd.write_bytes(b"initrd")
        self.directories = {"state_dir": str(root / "state"), "run_dir": str(root / "run")}
        self.run_dir = root / "run"

    def task(self, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run a kata_sandbox task with the mock driver."""
        boot = {} if "template" in options else {"kernel_path": str(self.kernel), "initrd_path": str(self.initrd)}
        given = {"id": "web", "hypervisor": "mock", **self.directories, **boot, **options}
        return converge(parse_spec(given), check_mode)


@pytest.fixture(name="host")
def _host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


@pytest.fixture(name="old_files")
def _old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that have just been written count as settled."""
    monkeypatch.setattr(digests, "SETTLED_SECONDS", -1.0)


@pytest.fixture(name="reads")
def _reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read for a digest."""
    reads: list[str] = []
    real = digests.file_digest

    def file_digest(path: str, *more: str) -> str:
        reads.append(os.path.basename(path))
        return real(path, *more)

    monkeypatch.setattr(digests, "file_digest", file_digest)
    return reads


# --- digests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", sorted(digests.ALGORITHMS))
def test_a_file_of_more_than_one_chunk_is_read_whole(host: Host, algorithm: str) -> None:
    assert digests.file_digest(str(host.kernel), algorithm) == hashlib.new(algorithm, LARGE).hexdigest()
    assert digests.ALGORITHMS[algorithm] == len(hashlib.new(algorithm).hexdigest())


def test_a_file_that_is_not_there_is_an_error_that_names_the_option() -> None:
    with pytest.raises(AssetError) as caught:
        digests.file_digest("/nonexistent/kernel", "sha512", "kernel_path")
    assert (caught.value.option, caught.value.wanted) == ("kernel_path", "/nonexistent/kernel")


def test_digits_alone_are_a_sha512_and_capitals_are_the_same() -> None:
    digits = hashlib.sha512(b"x").hexdigest()
    for text in (digits, digits.upper(), f"SHA512:{digits}", f" sha512:{digits}\n"):
        assert digests.named_digest(text, "kernel_digest") == f"sha512:{digits}"


def test_every_digest_has_a_file_that_a_task_can_name() -> None:
    fields = HypervisorConfig()
    assert all(getattr(fields, digest) == getattr(fields, path) == "" for digest, path in DIGESTS.items())


# --- before each start -------------------------------------------------------------------------------------------------


def test_the_right_digests_start_a_sandbox(host: Host) -> None:
    result = host.task(kernel_digest=_sha(LARGE), initrd_digest=_sha(b"initrd", "sha256"))
    assert result["sandbox"]["state"] == "started"
    assert result["sandbox"]["options"]["initrd_digest"] == _sha(b"initrd", "sha256")
    again = host.task(kernel_digest=_sha(LARGE).upper(), initrd_digest=_sha(b"initrd", "sha256"))
    assert not again["changed"]


def _refusals(host: Host, **task: Any) -> AssetError:
    """The error of a task, which check mode raises in the same words; neither has changed anything."""
    errors = []
    for check_mode in (True, False):
        with pytest.raises(AssetError) as caught:
            host.task(check_mode, **task)
        errors.append(caught.value)
    assert str(errors[0]) == str(errors[1])
    return errors[0]


def test_another_file_is_refused_with_both_digests_and_leaves_nothing(host: Host) -> None:
    error = _refusals(host, kernel_digest=_sha(b"other"))
    assert (error.option, error.wanted) == ("kernel_digest", _sha(b"other"))
    assert f"{host.kernel} has the digest {_sha(LARGE)}" in str(error) and _sha(b"other") in str(error)
    assert not (host.run_dir / "web").exists() and not os.path.exists(host.directories["state_dir"] + "/sandboxes/web")


@pytest.mark.parametrize("state", ["restarted", "started"])
def test_a_file_that_changed_starts_nothing_and_a_vm_that_runs_goes_on(host: Host, state: str) -> None:
    host.task(kernel_digest=_sha(LARGE))
    if state == "started":
        host.task(state="stopped")
    host.kernel.write_bytes(b"exchanged")
    error = _refusals(host, state=state)
    assert _sha(b"exchanged") in str(error) and error.wanted == _sha(LARGE)
    assert host.task(True, state="present")["sandbox"]["state"] == ("started" if state == "restarted" else "stopped")


def test_no_sandbox_is_brought_back_after_a_reboot_with_another_file(host: Host) -> None:
    host.task(kernel_digest=_sha(LARGE))
    shutil.rmtree(host.run_dir)
    host.kernel.write_bytes(b"exchanged")
    with pytest.raises(AssetError, match="has the digest") as caught:
        start_at_boot(SandboxSpec("web", **host.directories))
    assert _sha(b"exchanged") in str(caught.value) and caught.value.wanted == _sha(LARGE)
    host.kernel.write_bytes(LARGE)
    assert start_at_boot(SandboxSpec("web", **host.directories))


def test_a_saved_vm_is_not_restored_with_another_file(host: Host) -> None:
    host.task(initrd_digest=_sha(b"initrd"))
    host.task(state="saved")
    host.initrd.write_bytes(b"exchanged")
    assert _refusals(host, state="started").option == "initrd_digest"
    assert host.task(True, state="present")["sandbox"]["state"] == "saved"
    assert host.task(initrd_digest=_sha(b"exchanged"), state="started")["sandbox"]["state"] == "started"


def test_a_clone_is_not_started_from_another_file(host: Host) -> None:
    boot = {"kernel_path": str(host.kernel), "initrd_path": str(host.initrd), "kernel_digest": _sha(LARGE)}
    converge_template(
        parse_template_spec({"id": "base", "hypervisor": "mock", "wait_for": "running", **boot, **host.directories})
    )
    assert host.task(template="base", initrd_digest=_sha(b"initrd"))["sandbox"]["state"] == "started"
    host.task(state="stopped", template="base")
    error = _refusals(host, template="base", state="started", initrd_digest=_sha(b"other"))
    assert error.option == "initrd_digest"


def test_no_template_is_made_from_another_file(host: Host) -> None:
    boot = {"kernel_path": str(host.kernel), "initrd_path": str(host.initrd), "kernel_digest": _sha(b"other")}
    spec = parse_template_spec({"id": "base", "hypervisor": "mock", "wait_for": "running", **boot, **host.directories})
    with pytest.raises(AssetError, match="has the digest"):
        converge_template(spec)


def test_a_digest_changes_while_the_vm_runs_and_counts_at_the_next_start(host: Host) -> None:
    host.task()
    changed = host.task(kernel_digest=_sha(b"other"))
    assert changed["changed"] and changed["actions"] == [f"set kernel_digest none -> {_sha(b'other')}"]
    assert changed["sandbox"]["state"] == "started"
    assert _refusals(host, state="restarted").wanted == _sha(b"other")
    assert host.task(kernel_digest="", state="restarted")["sandbox"]["state"] == "started"


def test_a_digest_without_a_file_is_refused(host: Host) -> None:
    with pytest.raises(ConfigError, match="must be set together with its file, firmware_path"):
        host.task(firmware_digest=_sha(b"firmware"))


def test_a_hypervisor_without_such_a_file_refuses_the_digest(host: Host) -> None:
    with pytest.raises(HypervisorError, match="does not support jailer_digest"):
        host.task(hypervisor="qemu", jailer_digest=_sha(b"jailer"))


# --- what is cached ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("old_files")
def test_a_file_is_read_once_until_it_changes(host: Host, reads: list[str]) -> None:
    host.task(kernel_digest=_sha(LARGE))
    assert reads == ["kernel"]
    host.task(state="restarted")
    assert reads == ["kernel"]
    host.kernel.write_bytes(LARGE)
    host.task(state="restarted")
    assert reads == ["kernel", "kernel"]
    host.kernel.write_bytes(b"exchanged")
    with pytest.raises(AssetError):
        host.task(state="restarted")


@pytest.mark.usefixtures("old_files")
def test_a_change_that_keeps_size_and_modification_time_is_seen(host: Host) -> None:
    host.task(kernel_digest=_sha(LARGE))
    before = host.kernel.stat()
    host.kernel.write_bytes(LARGE[::-1])
    os.utime(host.kernel, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert host.kernel.stat().st_size == before.st_size
    with pytest.raises(AssetError, match="has the digest"):
        host.task(state="restarted")


@pytest.mark.usefixtures("old_files")
def test_check_mode_caches_nothing(host: Host) -> None:
    host.task(True, kernel_digest=_sha(LARGE))
    assert not host.run_dir.exists()


def test_a_file_that_has_just_changed_is_not_cached(host: Host, reads: list[str]) -> None:
    """A restart looks before it stops the VM, and again before it starts the next one."""
    host.task(kernel_digest=_sha(LARGE))
    host.task(state="restarted")
    assert reads == ["kernel"] * 3


@pytest.mark.usefixtures("old_files")
@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_what_others_could_exchange_is_read_each_time(host: Host, reads: list[str], mode: int) -> None:
    host.kernel.parent.chmod(mode)
    host.task(kernel_digest=_sha(LARGE))
    host.task(state="restarted")
    assert reads == ["kernel"] * 3


@pytest.mark.usefixtures("old_files")
def test_a_cache_that_is_none_costs_a_look_and_nothing_else(host: Host) -> None:
    config = HypervisorConfig(kernel_path=str(host.kernel), kernel_digest=_sha(LARGE))
    for content in (b"", b"[]", b"{", b'{"x": 1}'):
        cache = host.kernel.parent / "cache"
        cache.write_bytes(content)
        (found,) = boot_files.check_digests(config, str(cache)).values()
        assert f"sha512:{found}" == _sha(LARGE)
