#!/usr/bin/env bash
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Everything that must hold before a change lands: lint, vectors, the essential molecule scenarios, unit tests and real-QEMU integration.
# All parts run even when one fails; the exit code tells whether all passed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

failed=()
part() {
    local name=$1 from=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        echo "== $name: passed ($((SECONDS - from)) s)"
    else
        failed+=("$name")
        echo "== $name: FAILED ($((SECONDS - from)) s)"
    fi
}

# The scenarios wait for their hosts much of the time, so the unit tests run beside them.
unit_log=$(mktemp)
unit_tests=
# Without a terminal's control of jobs, an interrupt does not reach what runs in the background.
trap '[ -z "$unit_tests" ] || kill "$unit_tests" 2>/dev/null; rm -f "$unit_log"' EXIT
start_unit_tests() {
    make --no-print-directory unit >"$unit_log" 2>&1 &
    unit_tests=$!
}
finish_unit_tests() {
    wait "$unit_tests"
    local code=$?
    unit_tests=
    cat "$unit_log"
    return $code
}

part lint make --no-print-directory lint
part vectors make --no-print-directory vectors
start_unit_tests
part "roles and playbooks on fresh hosts" make --no-print-directory molecule SCENARIOS="kata_vmm sandbox_lifecycle reboot"
part "unit tests" finish_unit_tests
part "integration with real VMMs" make --no-print-directory integration WORKERS=2

printf '\n'
if [ ${#failed[@]} -gt 0 ]; then
    echo "make test took $SECONDS s and FAILED: ${failed[*]}"
    exit 1
fi
echo "make test took $SECONDS s; everything passed"
