# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unix sockets of a sandbox on the host: made where nothing is, replaced and removed only where they are sockets of that sandbox."""

from __future__ import annotations

import os
import socket
import stat

from ..errors import AssetError, HostError
from ..untrusted.files import Directory, UntrustedFile, kind_name, through


def check_socket_place(path: str, ours: bool, option: str = "devices") -> None:
    """Refuse a path at which a socket cannot be made without taking something of somebody's. Changes nothing.

    :param ours: a socket there is one of this sandbox
    :raises HostError: something else is there
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if ours and stat.S_ISSOCK(mode):
        return
    what = "a socket that is not this sandbox's" if stat.S_ISSOCK(mode) else kind_name(mode)
    raise HostError(
        "the path of a socket must be free, or a socket of this sandbox",
        option=option,
        wanted=path,
        answer=f"there is {what}",
        fix="Name another path, or remove what is there.",
    )


def listening_socket(path: str, ours: bool = True, option: str = "run_dir") -> socket.socket:
    """A unix socket that listens at a path, whose file only the owner can use.

    :param ours: a socket that is there already is one of this sandbox, and is replaced
    :param option: the task's option that names the path
    :raises HostError: it cannot be made, or something else is there
    """
    check_socket_place(path, ours, option)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with Directory.open(os.path.dirname(path)) as directory:
            if ours:
                remove_socket_in(directory, os.path.basename(path))
            # The file of a socket gets the socket's own mode, less the umask (unix(7)), so nobody can use it for a moment either.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(f"{through(directory.descriptor)}/{os.path.basename(path)}")
        listener.listen(4)
    except (OSError, UntrustedFile) as error:
        listener.close()
        raise HostError(f"the socket {path} cannot be made", option=option, answer=str(error)) from error
    return listener


def connected_socket(path: str, option: str = "devices") -> int:
    """A descriptor of a connection to a unix socket.

    :raises HostError: nobody listens there
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.connect(path)
    except OSError as error:
        client.close()
        raise HostError(
            "no program listens on this socket",
            option=option,
            wanted=path,
            answer=str(error),
            fix="Start its back end first.",
        ) from error
    return client.detach()


def remove_socket(path: str) -> None:
    """Remove a socket. What is no socket stays. Idempotent."""
    try:
        with Directory.open(os.path.dirname(path)) as directory:
            remove_socket_in(directory, os.path.basename(path))
    except (FileNotFoundError, NotADirectoryError):
        return


def remove_socket_in(directory: Directory, name: str) -> None:
    """Remove a socket of a directory. What is no socket stays. Idempotent."""
    found = directory.status(name)
    if found is not None and stat.S_ISSOCK(found.st_mode):
        directory.unlink(name)


def is_socket(path: str) -> bool:
    """Is there a socket, no link followed?"""
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def check_served(path: str) -> None:
    """Refuse the path of a vhost-user device at which there is no socket. Changes nothing, and does not connect: some back ends serve one client.

    :raises AssetError: there is none
    """
    if not is_socket(os.path.realpath(path)):
        raise AssetError(
            "no program listens on this vhost-user socket",
            option="devices",
            wanted=path,
            fix="Start its back end first.",
        )
