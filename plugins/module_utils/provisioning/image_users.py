# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the sandboxes whose root disks are based on an image. Without the image such a disk cannot be read, so the image stays.

A file beside each root disk names its base, see `resources/root_disk.py`. It is written before the disk is created and outlives the VM.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import Any, Iterator, NamedTuple

from ..errors import HostError
from ..host.atomic_files import make_directories, sync
from ..records.layout import STATE_ROOT
from ..untrusted.answers import AnswerError, Number, Record, Text, checked, parsed

#: Links to directories of sandboxes that use the images beside it, and the file that every version of an asset has.
NOTED, MANIFEST = ".state-dirs", ".asset.json"
#: The file beside a sandbox's record that describes its root disk, its largest size in bytes, and its shape.
DISK_RECORD = "root-disk.json"
MOST_RECORD = 64 * 1024
RECORD = Record(
    {
        "path": Text(4096),
        "format": Text(choices=("qcow2", "raw")),
        "base": Text(4096),
        "base_format": Text(choices=("qcow2", "raw")),
        "base_identity": Text(1024),
        "size_mb": Number(1, 2**32),
    }
)


class ImageUser(NamedTuple):
    """A sandbox whose root disk is based on an image."""

    sandbox: str
    base: str


def read_disk_record(state_dir: str) -> dict[str, Any] | None:
    """The description of a sandbox's root disk; None if it has none.

    :raises OSError: it cannot be read
    :raises AnswerError: it is not a description of a root disk
    """
    path = os.path.join(state_dir, DISK_RECORD)
    try:
        with open(path, "rb") as stream:
            data = stream.read(MOST_RECORD + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    value: dict[str, Any] = checked(RECORD, parsed(data, path, MOST_RECORD), path)
    return value


def state_roots(assets: str) -> list[str]:
    """The directories of sandboxes that can use the assets in a directory: the default one, those that the assets are in, and those that were noted.

    :param assets: an absolute path
    """
    found, path = [STATE_ROOT], os.path.realpath(assets)
    while path != os.path.dirname(path):
        if os.path.isdir(os.path.join(path, "sandboxes")):
            found.append(path)
        with contextlib.suppress(OSError):
            noted = os.path.join(path, NOTED)
            found += [os.readlink(os.path.join(noted, name)) for name in sorted(os.listdir(noted))]
        path = os.path.dirname(path)
    return list(dict.fromkeys(found))


def note_state_root(base: str, state_root: str) -> None:
    """Note beside an installed or built image that sandboxes in a directory use it, unless they are found without that.

    A user who cannot write there leaves no note. Images of others are not removed by this collection and get none.
    """
    directory, name = os.path.split(base)
    if os.path.isfile(os.path.join(directory, MANIFEST)):
        # A version of an asset has nothing in it but its files.
        directory = os.path.dirname(directory)
    elif not os.path.isfile(os.path.join(directory, f".{name}.json")):
        return
    if state_root in state_roots(base):
        return
    noted = os.path.join(directory, NOTED)
    digest = hashlib.sha256(os.fsencode(state_root)).hexdigest()[:16]
    with contextlib.suppress(OSError):
        make_directories(noted)
        os.symlink(state_root, os.path.join(noted, digest))
        sync(noted)


def image_users(assets: str) -> list[ImageUser]:
    """The sandboxes whose root disks read their base while they run, and these bases. A copy does not need its base any more.

    :param assets: the directory of the images
    """
    return sorted({user for root in state_roots(assets) for user in _users_below(root)})


def _users_below(root: str) -> Iterator[ImageUser]:
    try:
        names = os.listdir(os.path.join(root, "sandboxes"))
    except OSError:
        return
    for name in names:
        directory = os.path.join(root, "sandboxes", name)
        try:
            disk = read_disk_record(directory)
        except (OSError, AnswerError):
            continue  # The sandbox's own task reports it.
        if disk and disk["format"] == "qcow2":
            yield ImageUser(name, disk["base"])


def users_of(path: str) -> list[str]:
    """The sandboxes whose root disks are based on a file, or on a file in a directory, whatever the names of these are."""
    inside = os.path.realpath(path)
    return sorted(
        {
            user.sandbox
            for user in image_users(path)
            if os.path.realpath(user.base) == inside or os.path.realpath(user.base).startswith(inside + "/")
        }
    )


def refuse_if_used(sandboxes: list[str], what: str, option: str, wanted: Any) -> None:
    """Refuse to remove or replace an image that root disks are based on.

    :param sandboxes: whose root disks these are
    :param what: what it is, for the error
    :raises HostError: names the sandboxes
    """
    if sandboxes:
        raise HostError(
            f"{what} must stay: the root disk of sandbox {', '.join(sandboxes)} is based on it",
            option=option,
            wanted=wanted,
            fix="Nothing was changed. Remove these sandboxes first, or install the new image beside it, under another version or path.",
        )
