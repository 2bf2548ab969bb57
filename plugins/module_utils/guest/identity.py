# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How guests of the collection's own images, which have no cloud-init, apply a seed: a script, and the file of the seed that it reads.

The file has a word and a value on each line, in this order:

    instance ID               another one runs the user script again
    hostname NAME             with or without a domain
    key TEXT                  a public key of root and of the first user
    interface MAC or NAME     what follows is about this interface
    address ADDRESS/LENGTH
    gateway ADDRESS
    dhcp
    nameserver ADDRESS
    search DOMAIN
"""

from __future__ import annotations

#: The name of the file, and where the script is in a guest.
FILE = "kata-guest"
SCRIPT_NAME = "kata-identity"
#: Where sshd finds the keys of a user, beside the usual place, which can be on a file system that is read-only.
AUTHORIZED_KEYS = "/run/kata-identity/authorized/%u"

#: Vendor data that has a guest with cloud-init install the guest agent, once for each instance. A user's own user data stays as it is: this script runs
#: beside it. The last lines serve a guest with a vsock and without a port for the agent (Firecracker).
INSTALL_AGENT = r"""#!/bin/sh
# Install and start the QEMU guest agent, through which the host reaches this guest (option guest_agent of kata.hypervisor.kata_sandbox).
if ! command -v qemu-ga >/dev/null; then
    if command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q update && apt-get -q -y install --no-install-recommends qemu-guest-agent
    elif command -v dnf >/dev/null; then
        dnf -y install qemu-guest-agent
    elif command -v yum >/dev/null; then
        yum -y install qemu-guest-agent
    elif command -v zypper >/dev/null; then
        zypper --non-interactive install qemu-guest-agent
    elif command -v apk >/dev/null; then
        apk add qemu-guest-agent
    elif command -v pacman >/dev/null; then
        pacman -Sy --noconfirm qemu-guest-agent
    fi
fi
if ! command -v qemu-ga >/dev/null; then
    echo 'kata-guest: cannot install the package qemu-guest-agent' >/dev/console
    exit 1
fi
if [ -e /dev/virtio-ports/org.qemu.guest_agent.0 ]; then
    if command -v systemctl >/dev/null; then
        systemctl start qemu-guest-agent
    else
        rc-update add qemu-guest-agent default
        rc-service qemu-guest-agent start
    fi
elif [ -d /sys/bus/virtio/drivers/vmw_vsock_virtio_transport ] && command -v systemctl >/dev/null; then
    echo 'install vsock_loopback /bin/false' >/etc/modprobe.d/kata-guest.conf
    cat >/etc/systemd/system/kata-agent.service <<END
[Unit]
Description=QEMU guest agent at the vsock

[Service]
ExecStart=$(command -v qemu-ga) -m vsock-listen -p 4294967295:1022
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
END
    systemctl daemon-reload
    systemctl enable --now kata-agent.service
fi
"""

SCRIPT = r"""#!/bin/sh
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Applies the seed of this sandbox, a file system with the label cidata.
#
#   kata-identity apply   grow the root file system to the size of its disk; set the host name, keys and addresses
#   kata-identity run     run the user data of the seed if it is a script: once, and again after each change of the seed
#
# udhcpc calls it with bound, renew and deconfig.

export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
state=/run/kata-identity
umask 077

say() { echo "kata-guest: $*" >/dev/console; }

# Writes its input to a file. On a file system that is read-only the file is mounted over the old one.
put() {
    cat >"$state/new"
    chmod 644 "$state/new"
    if ! { cat "$state/new" >"$1"; } 2>/dev/null; then
        copy=$state/file-$(echo "$1" | tr / -)
        mv "$state/new" "$copy"
        mount -o bind "$copy" "$1" || say "cannot write $1"
    fi
}

interface_of() {
    tries=0
    while [ "$tries" -lt 50 ]; do
        for place in /sys/class/net/*; do
            read -r address <"$place/address" || address=
            if [ "$address" = "$1" ] || [ "${place##*/}" = "$1" ]; then
                echo "${place##*/}"
                return
            fi
        done
        tries=$((tries + 1))
        sleep 0.2
    done
    say "there is no interface $1"
}

request_address() {
    if command -v udhcpc >/dev/null; then
        udhcpc -i "$1" -b -t 8 -T 1 -s "$0" -x "hostname:$(hostname)" >/dev/null 2>&1 || say "no address by DHCP"
    elif [ -e /lib/systemd/systemd-networkd ]; then
        mkdir -p /run/systemd/network
        printf '[Match]\nName=%s\n[Network]\nDHCP=yes\n' "$1" >/run/systemd/network/10-kata.network
        chmod 755 /run/systemd/network
        chmod 644 /run/systemd/network/10-kata.network
        systemctl --no-block restart systemd-networkd
    else
        say "no program for DHCP: udhcpc or systemd-networkd"
    fi
}

default_route() {
    case "$1" in
    *:*) ip -6 route add default via "$1" dev "$2" ;;
    *) ip route add default via "$1" dev "$2" ;;
    esac 2>/dev/null
}

set_name() {
    short=${1%%.*}
    hostname "$short"
    echo "$short" | put /etc/hostname
    if [ "$short" = "$1" ]; then names=$1; else names="$1 $short"; fi
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost\n' "$names" | put /etc/hosts
}

authorize() {
    mkdir -p "$state/authorized"
    chmod 755 "$state/authorized"
    users=root
    while IFS=: read -r user _ uid _; do
        [ "$uid" = 1000 ] && users="$users $user"
    done 2>/dev/null </etc/passwd
    for user in $users; do
        cp "$state/keys" "$state/authorized/$user"
        chmod 644 "$state/authorized/$user"
    done
    # A guest without sshd's configuration of ours.
    if ! [ -e /root/.ssh/authorized_keys ]; then
        { mkdir -p /root/.ssh && cp "$state/keys" /root/.ssh/authorized_keys; } 2>/dev/null
    fi
}

# The disk with the seed. The label of an ISO 9660 file system is at byte 32808; not every findfs knows that.
find_seed() {
    for place in /sys/block/*; do
        case "$(dd if="/dev/${place##*/}" bs=8 skip=4101 count=1 2>/dev/null)" in
        'cidata  ' | 'CIDATA  ')
            echo "/dev/${place##*/}"
            return
            ;;
        esac
    done
    findfs LABEL=cidata 2>/dev/null || findfs LABEL=CIDATA 2>/dev/null
}

grow() {
    command -v resize2fs >/dev/null || return
    while read -r device place type options _; do
        [ "$place" = / ] || continue
        case "$type,$options," in
        ext4,*,ro,* | ext4,ro,*) ;;
        ext4,*) resize2fs "$device" >/dev/null 2>&1 || say "cannot grow the file system on $device" ;;
        esac
    done </proc/mounts
}

apply() {
    grow
    device=$(find_seed) || return 0
    mkdir -p "$state/seed"
    chmod 755 "$state"
    mount -o ro "$device" "$state/seed" || say "cannot mount the seed $device"
    for file in "$state"/seed/*; do cat "$file" >"$state/${file##*/}"; done
    umount "$state/seed"
    [ -e "$state/kata-guest" ] || return 0
    interface=
    while read -r word value; do
        case "$word" in
        instance) echo "$value" >"$state/instance" ;;
        hostname) set_name "$value" ;;
        key) printf '%s\n' "$value" >>"$state/keys" ;;
        interface)
            interface=$(interface_of "$value")
            [ -n "$interface" ] && ip link set dev "$interface" up
            ;;
        nameserver | search) echo "$word $value" >>"$state/names" ;;
        esac
        [ -n "$interface" ] || continue
        case "$word" in
        address) ip address add "$value" dev "$interface" 2>/dev/null ;;
        gateway) default_route "$value" "$interface" ;;
        dhcp) request_address "$interface" ;;
        esac
    done <"$state/kata-guest"
    if [ -e "$state/keys" ]; then authorize; fi
    if [ -e "$state/names" ]; then put /etc/resolv.conf <"$state/names"; fi
}

run() {
    [ -e "$state/instance" ] || return 0
    read -r instance <"$state/instance"
    read -r first <"$state/user-data" || return 0
    case "$first" in
    '#!'*) ;;
    *)
        say "the user data is not a script, and this guest has no cloud-init"
        return
        ;;
    esac
    # What has run is remembered where the root file system keeps it.
    place=/var/lib/kata-identity
    mkdir -p $place 2>/dev/null && { : >$place/new; } 2>/dev/null || place=$state
    if [ "$(cat $place/done 2>/dev/null)" = "$instance" ]; then return; fi
    cp "$state/user-data" $place/user-script
    chmod 700 $place/user-script
    $place/user-script
    say "the user script ended with exit code $?"
    echo "$instance" >$place/done
}

# Tells on the console that the end is reached; wait_for: cloud_init waits for that.
finish() {
    if [ -e "$state/instance" ]; then say "the seed is applied"; fi
}

# udhcpc's variables: interface, ip, mask (the prefix's length), router, dns, domain.
# shellcheck disable=SC2154
lease() {
    ip address flush dev "$interface"
    ip address add "$ip/$mask" dev "$interface"
    for one in $router; do default_route "$one" "$interface"; done
    if [ -n "$dns" ] && ! [ -e "$state/names" ]; then
        { for one in $dns; do echo "nameserver $one"; done; if [ -n "$domain" ]; then echo "search $domain"; fi; } | put /etc/resolv.conf
    fi
}

case "$1" in
apply) apply ;;
run)
    run
    finish
    ;;
bound | renew) lease ;;
deconfig | leasefail | nak) ;;
*) echo "usage: kata-identity apply|run" >&2 && exit 2 ;;
esac
"""
