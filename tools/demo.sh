#!/usr/bin/env bash
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs playbooks/quickstart.yml against this host, step by step, and tells how long each step took.
set -euo pipefail
cd "$(dirname "$0")/.."

export ANSIBLE_CONFIG=$PWD/ansible.cfg ANSIBLE_CALLBACK_RESULT_FORMAT=yaml ANSIBLE_DISPLAY_SKIPPED_HOSTS=false
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
started=$SECONDS

say() { printf '\n== %s\n' "$1"; }

play() {
    local from=$SECONDS
    .venv/bin/ansible-playbook playbooks/quickstart.yml --tags "$1" | tee "$log/$1"
    echo "   ($((SECONDS - from)) s)"
}

[ "$(id -u)" -eq 0 ] || { echo "make demo installs packages and starts VMs: run it as root." >&2; exit 1; }

say "1. Bring QEMU, a guest kernel and an initrd to this host, and start three sandboxes"
play converge
say "2. The same again: nothing may change"
play converge
grep -Eq '^localhost .* changed=0 .* failed=0 ' "$log/converge" || { echo "The second run changed something." >&2; exit 1; }
echo "   The second run changed nothing."
say "3. Pause, resume, more vCPUs, more memory: the guest itself confirms"
play operate
say "4. The sandboxes of this host"
play status
say "5. Remove them, and look for leftovers"
play remove
printf '\nThe demo took %s s.\n' "$((SECONDS - started))"
