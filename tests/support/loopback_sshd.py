# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real sshd of this machine on the loopback interface, for tests of what goes over ssh. Nothing is installed: its package is only unpacked.

It runs in a mount namespace of its own, where the user of its package and /run/sshd exist, and everything else is this machine's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
from typing import Any, Iterator, NamedTuple

from tests.support.guest_assets import cache_directory
from tests.support.waiting import PATIENCE

UNPACKED = cache_directory() / "openssh-server"
START = """
set -e
mount --make-rprivate /
mount --bind {work}/passwd /etc/passwd
mkdir -p /run/sshd
exec {sshd} -D -e -f {work}/sshd_config
"""
CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {work}/host_key
AuthorizedKeysFile {work}/key.pub
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
MaxStartups 100
MaxSessions 100
PidFile none
UseDNS no
Subsystem sftp internal-sftp
"""


class Sshd(NamedTuple):
    """A running sshd."""

    port: int
    key: pathlib.Path

    def variables(self) -> dict[str, Any]:
        """The variables of a host of an inventory that is reached through it."""
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            "ansible_python_interpreter": "/usr/bin/python3",
        }


def program() -> pathlib.Path:
    """The program of Debian's package, unpacked once on a machine."""
    path = UNPACKED / "usr/sbin/sshd"
    UNPACKED.parent.mkdir(parents=True, exist_ok=True)
    with open(UNPACKED.parent / "openssh-server.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            work = UNPACKED.with_name("openssh-server.new")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            subprocess.run(["apt-get", "download", "-q", "openssh-server"], cwd=work, check=True, capture_output=True)
            (package,) = work.glob("*.deb")
            subprocess.run(["dpkg", "-x", str(package), str(work)], check=True)
            work.rename(UNPACKED)
    return path


@contextlib.contextmanager
def loopback_sshd(work: pathlib.Path, port: int = 0) -> Iterator[Sshd]:
    """An sshd for root of this machine, with a key of its own. It is ended afterwards, with all its connections.

    :param work: an empty directory
    :param port: a free port; one is chosen without it
    """
    for name in ("key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(work / name)], check=True)
    users = pathlib.Path("/etc/passwd").read_text(encoding="utf-8").splitlines()
    users = [line.replace(":*:", ":x:") for line in users if not line.startswith("sshd:")]
    # Root's shell reads no file of this machine's user.
    users = [line.rpartition(":")[0] + ":/bin/sh" if line.startswith("root:") else line for line in users]
    (work / "passwd").write_text("\n".join([*users, "sshd:x:65534:65534::/run/sshd:/usr/sbin/nologin", ""]))
    port = port or free_port()
    (work / "sshd_config").write_text(CONFIG.format(port=port, work=work))
    script = START.format(work=work, sshd=program())
    with open(work / "log", "wb") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        wait_for(port, process, work / "log")
        yield Sshd(port, work / "key")
    finally:
        for pid in descendants(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    found = []
    with contextlib.suppress(OSError):
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in map(int, children):
            found += [child, *descendants(child)]
    return found


def free_port() -> int:
    """A port that no program listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], log: pathlib.Path) -> None:
    """Wait until the sshd answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE) as stream:
            if stream.recv(4) == b"SSH-":
                return
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
