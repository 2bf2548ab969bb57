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
# Usage: finished NAME SECONDS CODE
finished() {
    if [ "$3" -eq 0 ]; then
        echo "== $1: passed ($2 s)"
    else
        failed+=("$1")
        echo "== $1: FAILED ($2 s)"
    fi
}

part() {
    local name=$1 from=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    "$@"
    finished "$name" $((SECONDS - from)) $?
}

# The scenarios wait for their hosts much of the time, so the parts that only compute run beside them, one after another.
beside=(lint vectors unit)
logs=$(mktemp -d)
computing=
# Without a terminal's control of jobs, an interrupt does not reach what runs in the background.
trap '[ -z "$computing" ] || kill "$computing" 2>/dev/null; rm -rf "$logs"' EXIT
compute() {
    local running='' name from
    trap '[ -z "$running" ] || kill "$running" 2>/dev/null; exit 1' TERM
    for name in "${beside[@]}"; do
        from=$SECONDS
        make --no-print-directory "$name" >"$logs/$name" 2>&1 &
        running=$!
        wait "$running"
        echo "$((SECONDS - from)) $?" >"$logs/$name.ended"
    done
}

# Nothing is installed while two parts run.
make --no-print-directory venv packages
compute &
computing=$!
part "roles and playbooks on fresh hosts" make --no-print-directory molecule SCENARIOS="kata_vmm sandbox_lifecycle reboot"
wait "$computing"
computing=
for name in "${beside[@]}"; do
    printf '\n== %s\n' "$name"
    cat "$logs/$name"
    read -r seconds code <"$logs/$name.ended" || seconds=0 code=1
    finished "$name" "$seconds" "$code"
done
part "integration with real VMMs" make --no-print-directory integration WORKERS=2 SHORT=1

printf '\n'
if [ ${#failed[@]} -gt 0 ]; then
    echo "make test took $SECONDS s and FAILED: ${failed[*]}"
    exit 1
fi
echo "make test took $SECONDS s; everything passed"
