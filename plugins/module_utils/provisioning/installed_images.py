# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the image that a task names: an asset of kata_asset and of the role kata_image, or a file that a module built.

ASSETS/images/NAME/VERSION/image    an asset; its version in use is the one that `current` points to
ASSETS/images/NAME.img              a file that kata_disk_image or kata_root_image built
ASSETS/NAME/VERSION/FILE            an asset in the default directory of kata_asset
"""

from __future__ import annotations

import contextlib
import os
from typing import Iterator, NamedTuple

from ..errors import AssetError, ConfigError, HypervisorError
from ..host.qcow2 import MAGIC
from ..records.layout import STATE_ROOT
from .asset_store import AssetStore
from .built_files import BuiltFile
from .disk_image import check_raw_image

#: Endings that a name may omit.
ENDINGS = ("", ".img", ".raw", ".qcow2", ".ext4")


class InstalledImage(NamedTuple):
    """An image on this host.

    :param path: of the file, in the directory of its version
    :param format: raw or qcow2
    """

    path: str
    format: str


def installed_image(name: str, state_root: str = STATE_ROOT, option: str = "image") -> InstalledImage:
    """The image with a name, `NAME` or `NAME:VERSION`. Without a version, it is the version in use.

    The path names the version: a later version is another path, and a disk that is based on this one keeps it.

    :param state_root: the directory that has the assets; those in the default directory are found too
    :raises AssetError: there is none; the error names those that are installed
    :raises ConfigError: this cannot be the name of an image
    """
    plain, _colon, version = name.partition(":")
    if not plain or "/" in name or plain.startswith("."):
        raise ConfigError(
            "must be the absolute path of an image, or the name of an installed one", option=option, wanted=name
        )
    for root in _roots(state_root):
        with contextlib.suppress(ConfigError):  # A name of a built file need not be one of an asset.
            store = AssetStore(root, plain)
            wanted = version or store.current()
            if wanted and store.manifest(wanted):
                return _image_of(store, wanted, option)
        for ending in () if version else ENDINGS:
            path = os.path.join(root, plain + ending)
            if os.path.isfile(path) and BuiltFile(path).note():
                return InstalledImage(path, image_format(path, option))
    there = ", ".join(installed_names(state_root)) or "none"
    raise AssetError(
        "there is no image of this name",
        option=option,
        wanted=name,
        answer=f"installed are {there}",
        fix="Install it with the role kata_image or the module kata_asset, or give its absolute path.",
    )


def installed_names(state_root: str = STATE_ROOT) -> list[str]:
    """The names of the images that are installed."""
    return sorted(set(_names(state_root)))


def _names(state_root: str) -> Iterator[str]:
    for root in _roots(state_root):
        for name in os.listdir(root) if os.path.isdir(root) else ():
            path = os.path.join(root, name)
            try:
                if os.path.isdir(path):
                    store = AssetStore(root, name)
                    for version in store.versions():
                        _image_of(store, version, "image")
                        yield name if version == store.current() else f"{name}:{version}"
                elif not name.startswith(".") and BuiltFile(path).note():
                    image_format(path, "image")
                    yield name
            except (HypervisorError, OSError):
                continue  # It is not an image.


def _roots(state_root: str) -> list[str]:
    assets = [os.path.join(root, "assets") for root in (state_root, STATE_ROOT)]
    return list(dict.fromkeys(path for root in assets for path in (os.path.join(root, "images"), root)))


def _image_of(store: AssetStore, version: str, option: str) -> InstalledImage:
    """The image in a version of an asset.

    :raises AssetError: its files are no image, or which of them is the image is not clear
    """
    files = [name for name, facts in store.manifest(version)["files"].items() if "link" not in facts]
    named = [name for name in ("image", store.name) if name in files] or (files if len(files) == 1 else [])
    if not named:
        raise AssetError(
            "must have one file, or a file with the name image",
            option=option,
            wanted=store.path(version),
            answer=f"it has {', '.join(files[:10])}",
            fix="Give the absolute path of the image.",
        )
    path = store.path(version, named[0])
    return InstalledImage(path, image_format(path, option))


def image_format(path: str, option: str) -> str:
    """The format of an image that was installed, by its first bytes. A qcow2 image may still name other files: who opens it refuses these.

    :raises AssetError: it is no image, or cannot be read
    """
    try:
        with open(path, "rb") as stream:
            if stream.read(len(MAGIC)) == MAGIC:
                return "qcow2"
        check_raw_image(path)
    except OSError as problem:
        raise AssetError("the image cannot be read", option=option, wanted=path, answer=str(problem)) from problem
    except AssetError as problem:
        problem.option = option
        raise
    return "raw"


def recorded_digest(path: str) -> str:
    """The sha256 that was recorded when an image was installed or built, without reading it; empty if there is none."""
    path = os.path.realpath(path)
    note = BuiltFile(path).note()
    if note:
        return str(note["sha256"])
    directory = os.path.dirname(path)
    while directory != os.path.dirname(directory):
        asset, version = os.path.split(directory)
        with contextlib.suppress(ConfigError):
            store = AssetStore(os.path.dirname(asset), os.path.basename(asset))
            manifest = store.manifest(version)
            if manifest:
                return str(manifest["files"].get(os.path.relpath(path, directory), {}).get("sha256", ""))
        directory = asset
    return ""
