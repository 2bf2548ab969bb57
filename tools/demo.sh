#!/usr/bin/env bash
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs playbooks/quickstart.yml on this host, step by step, and prints how long each step took. With KEEP=1, the sandboxes stay.
set -euo pipefail
cd "$(dirname "$0")/.."

export ANSIBLE_CONFIG=$PWD/ansible.cfg ANSIBLE_CALLBACK_RESULT_FORMAT=yaml ANSIBLE_DISPLAY_SKIPPED_HOSTS=false
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
started=$SECONDS

say() { printf '\n== %s\n' "$1"; }

# play LOG ARGUMENT...
play() {
    local from=$SECONDS name=$1
    shift
    .venv/bin/ansible-playbook playbooks/quickstart.yml "$@" | tee "$log/$name"
    echo "   ($((SECONDS - from)) s)"
}

[ "$(id -u)" -eq 0 ] || { echo "make demo installs packages and starts VMs: run it as root." >&2; exit 1; }

say "1. Install QEMU, a guest kernel and images on this host, and start a web server and three more sandboxes"
play first --tags converge
say "2. Run the same again: nothing may change"
play second --tags converge
grep -Eq '^localhost .* changed=0 .* failed=0 ' "$log/second" || { echo "The second run changed something." >&2; exit 1; }
echo "   The second run changed nothing."
say "3. Pause, resume and resize the sandboxes (the guests confirm it), fetch a page from the web server, and show a table"
play third --tags operate,status --skip-tags always
if [ "${KEEP:-0}" = 1 ]; then
    cat <<'END'

The sandboxes stay. The web server:
    curl http://127.0.0.1:8080/
A shell in its guest:
    ssh -i /var/lib/kata-hypervisor/quickstart/id_ed25519 -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@127.0.0.1
A table of the sandboxes, and their removal:
    .venv/bin/ansible-playbook playbooks/quickstart.yml --tags status
    .venv/bin/ansible-playbook playbooks/quickstart.yml --tags remove
END
else
    say "4. Remove the sandboxes and look for leftovers (KEEP=1 keeps them)"
    play fourth --tags remove --skip-tags always
fi
printf '\nThe demo took %s s.\n' "$((SECONDS - started))"
