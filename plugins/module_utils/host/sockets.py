# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create, connect and remove unix sockets of a sandbox. Nothing but a socket of the same sandbox is ever replaced or removed."""

from __future__ import annotations

import os
import socket
import stat

from ..errors import AssetError, HostError
from ..untrusted.files import Directory, UntrustedFile, kind_name, through


def check_socket_place(path: str, ours: bool, option: str = "devices") -> None:
    """Refuse a path for a socket if something else exists there. Changes nothing.

    :param ours: whether an existing socket belongs to this sandbox
    :raises HostError: something else exists there
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
        fix="Choose another path, or remove that file.",
    )


def listening_socket(path: str, ours: bool = True, option: str = "run_dir") -> socket.socket:
    """Create a unix socket that listens at a path and that only its owner can use.

    :param ours: whether an existing socket belongs to this sandbox and is replaced
    :param option: the task's option that names the path
    :raises HostError: it cannot be created, or something else exists there
    """
    check_socket_place(path, ours, option)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with Directory.open(os.path.dirname(path)) as directory:
            if ours:
                remove_socket_in(directory, os.path.basename(path))
            # The file of a socket gets the socket's own mode, less the umask (unix(7)), so no other user can use it at any moment.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(f"{through(directory.descriptor)}/{os.path.basename(path)}")
        listener.listen(4)
    except (OSError, UntrustedFile) as error:
        listener.close()
        raise HostError(f"the socket {path} cannot be created", option=option, answer=str(error)) from error
    return listener


def connected_socket(path: str, option: str = "devices") -> int:
    """Connect to a unix socket. Returns the descriptor.

    :raises HostError: no program listens there
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.connect(path)
    except OSError as error:
        client.close()
        raise HostError(
            "a program must listen on this socket",
            option=option,
            wanted=path,
            answer=str(error),
            fix="Start its back end first.",
        ) from error
    return client.detach()


def remove_socket(path: str) -> None:
    """Remove a socket. Any other file stays. Idempotent."""
    try:
        with Directory.open(os.path.dirname(path)) as directory:
            remove_socket_in(directory, os.path.basename(path))
    except (FileNotFoundError, NotADirectoryError):
        return


def remove_socket_in(directory: Directory, name: str) -> None:
    """Remove a socket in a directory. Any other file stays. Idempotent."""
    found = directory.status(name)
    if found is not None and stat.S_ISSOCK(found.st_mode):
        directory.unlink(name)


def is_socket(path: str) -> bool:
    """Whether there is a socket at a path. Links are not followed."""
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def check_served(path: str) -> None:
    """Refuse a vhost-user device if there is no socket at its path. It does not connect, since some back ends serve only one client.

    :raises AssetError: there is no socket
    """
    if not is_socket(os.path.realpath(path)):
        raise AssetError(
            "a program must listen on this vhost-user socket",
            option="devices",
            wanted=path,
            fix="Start its back end first.",
        )
