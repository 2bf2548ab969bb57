# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""virtiofsd, the daemon behind a virtio-fs share: which one, how it is told, when it is ready.

Two programs have that name: the one in QEMU's tree up to 7 (options after -o) and the one in Rust since.
Neither is ever run without its sandbox.
"""

from __future__ import annotations

import os
import re
import time
from typing import Callable

from ....errors import AssetError, DeadlineExceeded, LaunchError, Unsupported
from ....host.processes import ProcessIdentity, identify, tail
from ....host.programs import check_program
from ....host.spawn import spawn_detached

USUAL_PLACES = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd", "/usr/bin/virtiofsd")


def find_daemon(wanted: str) -> str:
    """The daemon asked for, or the first of the usual places.

    :raises AssetError: there is none
    :raises HostError: another user could have put something else in its place
    """
    for path in (wanted,) if wanted else USUAL_PLACES:
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return check_program(path, "virtio_fs_daemon")
    raise AssetError(
        "there is no virtiofsd on this host",
        option="virtio_fs_daemon",
        wanted=wanted or None,
        fix="Install it (role kata.hypervisor.kata_vmm), or share with shared_fs virtio-9p.",
    )


def arguments(daemon: str, version: str, socket_path: str, directory: str, cache: str, read_only: bool) -> list[str]:
    """The daemon's command line.

    :param version: what it answers to `--version`
    :raises Unsupported: the older program cannot share read-only
    """
    if re.match(r"virtiofsd 1\.", version):
        words = [daemon, "--socket-path", socket_path, "--shared-dir", directory, "--cache", _rust_cache(cache)]
        return [*words, "--sandbox", "namespace", *(["--readonly"] if read_only else [])]
    if read_only:
        raise Unsupported(
            "this virtiofsd cannot share a directory read-only",
            option="devices",
            answer=version,
            fix="Use the one in Rust, 1.8 or later.",
        )
    # -o is a list: a comma in the path would end it.
    if "," in directory:
        raise Unsupported(
            "this virtiofsd cannot share a directory with a comma in its name", option="devices", wanted=directory
        )
    return [
        daemon,
        f"--socket-path={socket_path}",
        "-f",
        "-o",
        f"source={directory}",
        "-o",
        f"cache={cache or 'auto'}",
        "-o",
        "sandbox=namespace",
    ]


def _rust_cache(cache: str) -> str:
    return {"none": "never"}.get(cache, cache or "auto")


def start(
    argv: list[str],
    socket_path: str,
    log: str,
    started: Callable[[ProcessIdentity | None], None],
    timeout: float = 10.0,
    wrapper: list[str] | None = None,
) -> None:
    """Start the daemon and wait for its socket. On failure no process is left.

    :param started: told who the daemon is as soon as it runs
    :param timeout: seconds
    :param wrapper: a supervisor's command, see `common/scope.py`
    :raises LaunchError: it ended
    :raises DeadlineExceeded: it runs and makes no socket
    """
    try:
        child = spawn_detached(argv, log, wrapper=wrapper)
    except OSError as error:
        raise LaunchError("virtiofsd cannot be run", argv=argv, answer=str(error), log=log) from error
    try:
        started(identify(child.pid))
        deadline = time.monotonic() + timeout
        while not os.path.exists(socket_path):
            code = child.poll()
            if code is not None:
                raise LaunchError(
                    f"virtiofsd ended with exit code {code}", exit_code=code, argv=argv, answer=tail(log, 5), log=log
                )
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"virtiofsd made no socket within {timeout:g} s", answer=tail(log, 5), log=log)
            time.sleep(0.005)
    except BaseException:
        child.kill()
        child.wait()
        raise
