#!/usr/bin/env bash
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Installs those of the named Debian packages that are missing. Usage: tools/install-packages.sh PACKAGE...
#
# Packages whose files are all that is needed may be absent on another distribution; there this script only tells what to install.
set -euo pipefail

missing=()
for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "These packages are needed and cannot be installed from here (not Debian, or not root): ${missing[*]}" >&2
    exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
echo "Installing ${missing[*]}"
install() { apt-get install -q -y --no-install-recommends "${missing[@]}" </dev/null >"$log" 2>&1; }
# The lists of packages may be old or missing: then one update, and once more.
install || { apt-get update -q >"$log" 2>&1 && install; } || { tail -n 20 "$log" >&2; exit 1; }
