# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a distribution that the roles do not know, each stops and names the variable to set. In check mode, so nothing happens to this host."""

from __future__ import annotations

import json
import pathlib

from tests.support.ansible_programs import ansible

VARIABLES = {
    "kata_vmm": "kata_vmm_packages",
    "kata_kernel": "kata_kernel_package",
    "kata_image": "kata_image_busybox_package",
    "kata_network": "kata_network_packages",
    "kata_firmware": "kata_firmware_packages",
}
TASKS = """
- name: Run a role
  block:
    - name: Include the role
      ansible.builtin.include_role:
        name: "kata.hypervisor.{{ role }}"
  rescue:
    - name: Show its error
      ansible.builtin.debug:
        msg: "{{ role }} says {{ ansible_failed_result.msg }}"
"""
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Run each role
      ansible.builtin.include_tasks: one.yml
      loop: "{{ roles }}"
      loop_control:
        loop_var: role
"""


def test_a_role_that_knows_no_packages_names_the_variable(tmp_path: pathlib.Path) -> None:
    (tmp_path / "one.yml").write_text(TASKS)
    (tmp_path / "play.yml").write_text(PLAY)
    facts = {
        "distribution": "Archlinux",
        "distribution_major_version": "NA",
        "os_family": "Archlinux",
        "architecture": "x86_64",
        "pkg_mgr": "pacman",
    }
    variables = {"ansible_facts": facts, "roles": list(VARIABLES), "kata_image_modules_directory": "/lib"}
    out = ansible("ansible-playbook", "--check", str(tmp_path / "play.yml"), "--extra-vars", json.dumps(variables))
    said = {role: [line for line in out.splitlines() if f"{role} says" in line] for role in VARIABLES}
    assert {role for role, lines in said.items() if len(lines) == 1 and "Archlinux" in lines[0]} == set(VARIABLES), out
    for role, variable in VARIABLES.items():
        assert f"Name it in {variable}" in said[role][0] or f"Name them in {variable}" in said[role][0]
