# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# Starts a login shell on the console of a guest, in place of its login prompt.

consoles=$(cat /sys/class/tty/console/active)
tty=${consoles##* }
[ -c "/dev/$tty" ] || { echo "the guest has no console: $consoles" >&2; exit 1; }
shell=/bin/sh
[ ! -x /bin/bash ] || shell=/bin/bash
if [ -d /run/systemd/system ]; then
    # The unit may run from an earlier login.
    systemctl is-active --quiet kata-login.service && exit 0
    systemctl stop "serial-getty@$tty.service"
    systemd-run --quiet --collect --unit=kata-login --property=StandardInput=tty --property=StandardOutput=tty \
        --property=StandardError=tty --property="TTYPath=/dev/$tty" --property=TTYReset=yes --setenv=TERM=xterm --setenv=HOME=/root \
        --property=WorkingDirectory=-/root --property="ExecStopPost=-systemctl start serial-getty@$tty.service" "$shell" -l
else
    setsid "$shell" -l <>"/dev/$tty" >&0 2>&0 &
fi
