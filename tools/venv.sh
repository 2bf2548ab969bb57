#!/usr/bin/env bash
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Makes .venv, or brings it up to date. Usage: tools/venv.sh REQUIREMENTS_FILE
#
# Nothing is done when the requirements are the ones that were installed last. PYTHON=... chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=$1
stamp=".venv/.installed-$(basename "$requirements" .txt)"

fits() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3 /usr/bin/python3; do
        if fits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

if ! python=$(find_python); then
    tools/install-packages.sh python3-venv >&2 || true
    if ! python=$(find_python); then
        echo "No Python 3.11 to 3.13 with its venv module was found. Install one (python3-venv on Debian and Ubuntu), or name it: make PYTHON=..." >&2
        exit 1
    fi
fi

wanted=$(cat requirements*.txt | sha256sum | cut -d' ' -f1)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

.venv/bin/python -c '' 2>/dev/null || { rm -rf .venv && "$python" -m venv .venv; }
echo "Installing $requirements into .venv with $("$python" --version)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
echo "$wanted" >"$stamp"
