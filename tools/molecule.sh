#!/usr/bin/env bash
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs molecule scenarios on hosts that only this run uses, and prints what was covered. Usage: tools/molecule.sh [SCENARIO...]
#
# Runs all scenarios if none is named. The scenario "default" creates the hosts, so it always runs first. They are removed in any case. The scenario
# "guest_role" needs none, and creates its own guest, which molecule does only in a run without the others.
# HOST_RELEASE is the Debian release of the hosts, else bookworm.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
[ "$(id -u)" -eq 0 ] || { echo "molecule creates hosts and mounts their file systems: run it as root." >&2; exit 1; }

hosts=(-s default)
guest=()
[ $# -gt 0 ] || { hosts=(--all --exclude guest_role); guest=(-s guest_role); }
for name in "$@"; do
    case $name in
    default) ;;
    guest_role) guest=(-s guest_role) ;;
    *) hosts+=(-s "$name") ;;
    esac
done
[ "$*" != guest_role ] || hosts=()
if [ ${#guest[@]} -gt 0 ]; then
    # Its guest boots what other tests boot too.
    variables=$(.venv/bin/python -m tests.support.packages_image) || exit
    eval "$variables"
fi
work=$(mktemp -d /tmp/kata-molecule-XXXXXX)
export KATA_FLEET=$work/fleet ANSIBLE_HOME=$work/ansible
export FLEET_CACHE=${FLEET_CACHE:-$HOME/.cache/kata-hypervisor/hosts} XDG_CACHE_HOME=$work/cache
export HOST_RELEASE=${HOST_RELEASE:-bookworm}
unset ANSIBLE_CONFIG
export PATH=$PWD/.venv/bin:$PATH
trap '.venv/bin/python tests/hosts/fleet.py down "$KATA_FLEET"; rm -rf "$work"' EXIT

started=$SECONDS
log=$work/log
status=0
test_scenarios() {
    [ $# -eq 0 ] || molecule test "$@" --no-command-borders --report 2>&1 | tee -a "$log" || status=1
}
test_scenarios "${hosts[@]}"
test_scenarios "${guest[@]}"
printf '\nWhat was covered:\n'
sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -E '^[a-z_]+ +: actions=' | sort -u
printf '\nmolecule took %s s on %s hosts red and blue, and %s\n' "$((SECONDS - started))" "$HOST_RELEASE" "$([ "$status" -eq 0 ] && echo passed || echo FAILED)"
exit "$status"
