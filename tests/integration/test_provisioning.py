# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles and modules that provision: what check mode predicts on a host that has nothing yet, and what no result shows."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.installed_images import (
    installed_image,
    installed_names,
)
from tests.support.ansible_programs import ansible
from tests.support.checkout import ROOT

CONFIG = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
SECRET = "s3cr3t"


@pytest.mark.skipif(
    not shutil.which("apt-get") and not shutil.which("dnf"), reason="the roles need a package manager that they know"
)
def test_check_mode_predicts_on_a_host_that_has_nothing(tmp_path: pathlib.Path) -> None:
    fresh = tmp_path / "fresh"
    variables = {
        "kata_kernel_root": f"{fresh}/kernels",
        "kata_image_initrd_path": f"{fresh}/initrds/guest.img",
        "kata_image_tools_root": f"{fresh}/tools",
        "kata_sandbox_defaults": {"state_dir": f"{fresh}/state", "run_dir": f"{fresh}/run", "hypervisor": "qemu"},
        "kata_sandbox_list": [{"id": "web", "state": "started"}, {"id": 7}, {"id": "gone", "state": "absent"}],
    }
    roles = [f"kata.hypervisor.{name}" for name in ("kata_kernel", "kata_image", "kata_sandbox")]
    playbook = tmp_path / "site.yml"
    playbook.write_text(json.dumps([{"hosts": "localhost", "connection": "local", "roles": roles, "vars": variables}]))
    output = ansible("ansible-playbook", "--check", str(playbook), **CONFIG)
    assert "failed=0" in output
    for one in ("web", "7"):
        assert f"{one} will be created or changed when this host has its kernel, image." in output
    assert "gone will be" not in output
    assert not fresh.exists()


class Handler(http.server.BaseHTTPRequestHandler):
    """Knows one file and its list, for one user."""

    content = b"#!/bin/sh\n"
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        if not self.headers.get("Authorization"):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()
            return
        content = (
            f"{hashlib.sha256(self.content).hexdigest()} *vmm-1.0\r\n".encode()
            if self.path.endswith("SUMS")
            else self.content
        )
        self.send_response(200 if self.path.endswith(("SUMS", "vmm-1.0")) else 404)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{made.server_port}"
        made.shutdown()


def asset(tmp_path: pathlib.Path, options: dict[str, Any], *words: str, fails: bool = False) -> str:
    options = {"name": "vmm", "version": "1.0", "root": f"{tmp_path}/assets", **options}
    task = {"kata.hypervisor.kata_asset": options, "register": "result", "ignore_errors": fails}
    playbook = tmp_path / "play.yml"
    playbook.write_text(
        json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}])
    )
    output: str = ansible("ansible-playbook", str(playbook), "-vvv", "--diff", *words, **CONFIG)
    return output


@pytest.mark.parametrize("place", ["url", "options"])
def test_a_login_reaches_the_server_and_no_result(server: str, tmp_path: pathlib.Path, place: str) -> None:
    Handler.asked = []
    login = f"user:{SECRET}@" if place == "url" else ""
    options: dict[str, Any] = {
        "url": f"http://{login}{server}/vmm-{{version}}",
        "checksum": f"sha256:http://{login}{server}/{{version}}/SUMS",
    }
    if place == "options":
        options |= {
            "url_username": "user",
            "url_password": SECRET,
            "force_basic_auth": True,
            "headers": {"X-Token": SECRET},
        }
    output = asset(tmp_path, options)
    assert (tmp_path / "assets/vmm/current/vmm").read_bytes() == Handler.content
    shown = output.replace(json.dumps(options), "")
    assert SECRET not in _results_of(shown)
    asked = len(Handler.asked)
    assert "changed=0" in asset(tmp_path, options) and len(Handler.asked) == asked, "what is installed takes no request"
    failed = asset(tmp_path, {**options, "version": "2.0"}, fails=True)
    assert "no sha256 digest of vmm-2.0" in failed and SECRET not in _results_of(failed)
    odd = asset(
        tmp_path, {**options, "version": "3.0", "url": f"http://user:{SECRET} and more@{server}/x y"}, fails=True
    )
    assert SECRET not in _results_of(odd)
    refused = asset(tmp_path, {**options, "keep": "many"}, fails=True)
    assert "keep" in refused and SECRET not in _results_of(refused)
    assert all(SECRET not in name for name in os.listdir(tmp_path / "assets"))


def _results_of(output: str) -> str:
    """What the tasks returned, without the lines in which Ansible shows the playbook."""
    return output[output.index("TASK [") :]


class Mirror(http.server.SimpleHTTPRequestHandler):
    """A directory, as the mirror of a distribution has it."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: pathlib.Path) -> Iterator[str]:
    """The URL of a mirror with two images of version 7: a good one, and one that names a file of the host."""
    directory = tmp_path / "mirror/7"
    directory.mkdir(parents=True)
    raw = tmp_path / "raw"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", str(raw), "8M"], check=True)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(directory / "good.qcow2")], check=True)
    naming = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "raw",
        "-b",
        "/etc/shadow",
        str(directory / "naming.qcow2"),
    ]
    subprocess.run(naming, check=True)
    sums = "".join(
        f"SHA512 ({path.name}) = {hashlib.sha512(path.read_bytes()).hexdigest()}\n"
        for path in sorted(directory.glob("*.qcow2"))
    )
    (directory / "SHA512SUMS").write_text(sums)
    Mirror.asked = []
    serve = functools.partial(Mirror, directory=str(tmp_path / "mirror"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img is not here")
def test_cloud_images_are_fetched_once_verified_and_found_by_name(mirror: str, tmp_path: pathlib.Path) -> None:
    def play(*names: str, state: str = "present", sums: str = "SHA512SUMS", fails: bool = False) -> str:
        variables = {
            "kata_image_source": "none",
            "kata_image_state": state,
            "kata_image_root_directory": f"{tmp_path}/assets/images",
            "kata_image_path": f"{tmp_path}/assets/images/guest.img",
            "kata_image_initrd_path": f"{tmp_path}/assets/initrds/guest.img",
            "kata_image_tools_root": f"{tmp_path}/assets/tools",
            "kata_image_cloud_images": [
                {
                    "name": name,
                    "version": "7",
                    "url": f"{mirror}/{{version}}/{name}.qcow2",
                    "checksum": f"sha512:{mirror}/{{version}}/{sums}",
                }
                for name in names
            ],
        }
        play = {"hosts": "localhost", "connection": "local", "roles": ["kata.hypervisor.kata_image"], "vars": variables}
        playbook = tmp_path / "images.yml"
        playbook.write_text(json.dumps([play]).replace("{version}", "{{ '{version}' }}"))
        output: str = ansible("ansible-playbook", str(playbook), code=2 if fails else 0, **CONFIG)
        return output

    assert "changed=1" in play("good")
    found = installed_image("good", str(tmp_path))
    assert found == (f"{tmp_path}/assets/images/good/7/image", "qcow2")
    assert pathlib.Path(found.path).read_bytes() == (tmp_path / "mirror/7/good.qcow2").read_bytes()
    asked = len(Mirror.asked)
    assert "changed=0" in play("good") and len(Mirror.asked) == asked, "what is installed takes no request"
    refused = play("naming", fails=True)
    assert "must not name other files" in refused and "/etc/shadow" in refused
    (tmp_path / "mirror/7/WRONGSUMS").write_text(f"{'0' * 128}  wrong.qcow2\n")
    shutil.copy(tmp_path / "mirror/7/good.qcow2", tmp_path / "mirror/7/wrong.qcow2")
    assert "0" * 128 in play("wrong", sums="WRONGSUMS", fails=True)
    # Images of this machine are listed too.
    assert set(installed_names(str(tmp_path))) - set(installed_names(str(tmp_path / "nothing"))) == {"good"}
    play("good", state="absent")
    assert installed_names(str(tmp_path)) == installed_names(str(tmp_path / "nothing"))
