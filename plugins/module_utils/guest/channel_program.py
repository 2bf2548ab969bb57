# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell scripts that run in a guest at the other end of a data channel. They need a POSIX shell, cat, dd, head, mkfifo, mv, rm, wc and setsid.

A loop reads one request a line and runs one command after another:

- ``TOKEN hello NONCE`` is answered with ``NONCE PID`` and a line feed,
- ``TOKEN run NONCE SIZE COMMAND`` runs a command whose standard input is the SIZE bytes after the line. The answer is ``NONCE begin`` and a line feed,
  the standard output, ``NONCE CODE SIZE`` and a line feed, and SIZE bytes of the standard error.

COMMAND is written with the escapes of ``printf %b``. A line that does not begin with the loop's token is ignored, so what an interrupted task has left in
the port is never run.
"""

from __future__ import annotations

import shlex

from .ways import PIPES, Way

#: The longest command, bytes: Linux limits one argument of a program to 128 KiB (execve(2), MAX_ARG_STRLEN).
MAX_COMMAND = 128 * 1024 - 1

#: Set up by the start script: token, directory.
LOOP = r"""
exec 3<&0 4>&1 </dev/null >/dev/null 2>&1
out=$directory/$$.out error=$directory/$$.err reader=
trap 'rm -f "$out" "$out.new" "$error"' EXIT
mkfifo "$out" || exit
cd "$HOME" || cd /

# The next $1 bytes of the channel.
take() {
    [ $(($1 / 65536)) -eq 0 ] || dd bs=65536 count=$(($1 / 65536)) iflag=fullblock <&3
    [ $(($1 % 65536)) -eq 0 ] || dd bs=$(($1 % 65536)) count=1 iflag=fullblock <&3
}

# A process that the last command has left may still hold its output. Nothing that it prints belongs to the next command.
finish_reader() {
    parent=
    read -r _ _ _ parent _ <"/proc/$reader/stat"
    if [ "$parent" = "$$" ]; then
        kill "$reader"
        # The pipe is what shows that this loop is there, so it is replaced, and never missing.
        mkfifo "$out.new"
        mv -f "$out.new" "$out"
    fi
    wait "$reader"
    reader=
}

run() {
    printf '%s begin\n' "$1"
    # A file that no process of an earlier command writes to.
    : >"$error"
    if [ "$2" -gt 0 ]; then
        take "$2" | {
            /bin/sh -c "$3" 2>>"$error" 3<&- 4>&-
            code=$?
            cat >/dev/null
            exit "$code"
        }
    else
        /bin/sh -c "$3" 2>>"$error" 3<&- 4>&-
    fi
    code=$? size=0
    [ ! -s "$error" ] || size=$(($(wc -c <"$error")))
    printf '%s %d %d\n' "$1" "$code" "$size"
    [ "$size" -eq 0 ] || head -c "$size" "$error"
    rm -f "$error"
}

while IFS= read -r line <&3; do
    case $line in
    "$token "*) ;;
    *) continue ;;
    esac
    [ -z "$reader" ] || finish_reader
    line=${line#* }
    verb=${line%% *} line=${line#* }
    nonce=${line%% *} line=${line#* }
    case $verb in
    hello) printf '%s %d\n' "$nonce" "$$" >&4 ;;
    run)
        size=${line%% *}
        command=$(printf '%b.' "${line#* }")
        cat "$out" >&4 3<&- &
        reader=$!
        run "$nonce" "$size" "${command%.}" >"$out"
        ;;
    esac
done
"""

#: Ends a process and its children, but not what has become independent of them.
END = r"""
children() {
    if [ -r "/proc/$1/task/$1/children" ]; then
        cat /proc/"$1"/task/*/children
    else
        # A kernel without CONFIG_PROC_CHILDREN.
        grep -ls "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status | sed 's/[^0-9]//g'
    fi 2>/dev/null
}
end() {
    kill -STOP "$1" 2>/dev/null
    for child in $(children "$1"); do
        end "$child"
    done
    kill -KILL "$1" 2>/dev/null
}
"""

#: Where the loops keep their files.
DIRECTORY = r"""
umask 077
for base in /run /tmp; do
    [ ! -d "$base" ] || [ ! -w "$base" ] || break
done
directory=$base/kata-channel
mkdir "$directory" 2>/dev/null
if [ ! -d "$directory" ] || [ -L "$directory" ] || [ ! -O "$directory" ]; then
    echo "$directory must be a directory of root" >&2
    exit 1
fi
"""

START = r"""
if [ -s "$directory/$name.pid" ]; then
    read -r old <"$directory/$name.pid"
    if grep -q "$directory/$name.sh" "/proc/$old/cmdline" 2>/dev/null; then
        # The loops of other connections, which are children of a listener, go on.
        if [ -n "$record_pid" ]; then end "$old"; else kill -KILL "$old"; fi
        rm -f "$directory/$old.out" "$directory/$old.out.new" "$directory/$old.err"
    fi
fi
home=$(eval echo ~root)
[ -d "$home" ] || home=/
# A shell may still read the old one.
rm -f "$directory/$name.sh"
{
    printf 'token=%s directory=%s\n' "$token" "$directory"
    printf '%s\n' "$record_pid"
    printf '%s' "$loop"
} >"$directory/$name.sh"
launch() {
    set -- env -i "HOME=$home" USER=root LOGNAME=root SHELL=/bin/sh \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then
        # A service of its own, so that a restart of the agent does not end it. What a command leaves behind stays, as with ssh.
        # Pipelines need the signal that systemd turns off: without it `yes | head` does not end as it should.
        systemd-run --quiet --collect --unit="kata-channel-$$" --property=KillMode=process --property=IgnoreSIGPIPE=no "$@"
    else
        # What commands create has the usual mode; only the files here are private.
        (umask 022 && exec setsid "$@" </dev/null >/dev/null 2>&1) &
    fi
}
"""

#: At the port of a virtio-serial device there is one loop.
START_AT_PORT = r"""
port=
for one in /sys/class/virtio-ports/*; do
    read -r found <"$one/name" && [ "$found" = "$name" ] && port=/dev/${one##*/}
done
if [ -z "$port" ] || [ ! -c "$port" ]; then
    echo "there is no port $name in /sys/class/virtio-ports and /dev" >&2
    exit 1
fi
launch /bin/sh -c 'exec /bin/sh "$0" <>"$1" >&0' "$directory/$name.sh" "$port"
"""

#: At a vsock port there is a loop for each connection.
LISTENER = r"""
import signal, socket, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((socket.VMADDR_CID_ANY, int(sys.argv[1])))
listener.listen(16)
while True:
    client, peer = listener.accept()
    if peer[0] == socket.VMADDR_CID_HOST:
        subprocess.Popen(["/bin/sh", sys.argv[2]], stdin=client, stdout=client, start_new_session=True)
    client.close()
"""

START_AT_VSOCK = r"""
if command -v python3 >/dev/null; then
    launch /bin/sh -c 'echo $$ >"$0.pid" && exec python3 -c "$1" "$2" "$0.sh"' "$directory/$name" "$listener" "$name"
elif command -v socat >/dev/null; then
    launch /bin/sh -c 'echo $$ >"$0.pid" && exec socat "VSOCK-LISTEN:$1,reuseaddr,fork" "EXEC:/bin/sh $0.sh,setsid"' "$directory/$name" "$name"
else
    echo "the guest must have python3 or socat" >&2
    exit 1
fi
"""


def start_script(way: Way, token: str) -> str:
    """A script that ends what it started before at this channel, and starts a loop there that obeys requests with this token.

    :param token: letters and digits
    """
    at_port = way.kind == PIPES
    parts = {
        "name": way.name,
        "token": token,
        "loop": LOOP,
        "listener": LISTENER,
        "record_pid": f'echo $$ >"$directory/{way.name}.pid"' if at_port else "",
    }
    values = "".join(f"{name}={shlex.quote(text)}\n" for name, text in parts.items())
    return values + END + DIRECTORY + START + (START_AT_PORT if at_port else START_AT_VSOCK)


def end_script(pid: int) -> str:
    """A script that ends a loop, the command that it runs, and that command's children."""
    ended = f'end {pid}\nrm -f "$directory/{pid}.out" "$directory/{pid}.out.new" "$directory/{pid}.err"\n'
    # After a restart of the guest another process may have the number.
    return f'{END}{DIRECTORY}[ -p "$directory/{pid}.out" ] || exit 0\n{ended}'


def alive_script(pid: int) -> str:
    """A script that succeeds if the loop is there. After a restart of the guest its files are gone."""
    return f'{DIRECTORY}[ -p "$directory/{pid}.out" ] && [ -d /proc/{pid} ]\n'


def request_line(token: str, nonce: str, size: int, command: bytes) -> bytes:
    """The line that makes the loop run a command.

    :param size: bytes of standard input that follow the line
    :raises ValueError: the command is too long, or has a character that no command can have
    """
    if len(command) > MAX_COMMAND:
        raise ValueError(f"a command must have at most {MAX_COMMAND} bytes, not {len(command)}")
    if b"\0" in command:
        raise ValueError("a command must not have a zero byte")
    escaped = command.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    return f"{token} run {nonce} {size} ".encode() + escaped + b"\n"
