# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Custom assets: files that take the place of a configured kernel, image, initrd, firmware or binary, checked by digest."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Mapping

from ..errors import AssetError, ConfigError

if TYPE_CHECKING:
    from .config import HypervisorConfig

ANNOTATION_PREFIX = "com.github.containers.virtcontainers."
HASH_TYPE_ANNOTATION = ANNOTATION_PREFIX + "AssetHashType"
DEFAULT_HASH_TYPE = "sha512"
HASH_TYPES = ("sha512",)

#: The annotations' word for each kind that can be set by annotation.
ANNOTATION_WORDS = {
    "kernel": "Kernel",
    "image": "Image",
    "initrd": "Initrd",
    "hypervisor": "Hypervisor",
    "jailer": "Jailer",
    "firmware": "Firmware",
}

#: What `create_assets` takes from a sandbox's annotations, in this order.
SANDBOX_KINDS = ("kernel", "image", "initrd")


@dataclasses.dataclass(frozen=True)
class Asset:
    """A file on the host and what it is used for."""

    path: str
    kind: str

    @property
    def valid(self) -> bool:
        """Whether it can be used: an absolute path and a kind that has annotations."""
        return os.path.isabs(self.path) and self.kind in ANNOTATION_WORDS


def asset_annotations(kind: str) -> tuple[str, str]:
    """The names of the annotations that carry an asset's path and digest.

    :raises ConfigError: this kind has none
    """
    word = ANNOTATION_WORDS.get(kind)
    if word is None:
        raise ConfigError(
            f"no annotation can set an asset of kind {kind!r}", fix=f"The kinds are {', '.join(ANNOTATION_WORDS)}."
        )
    return f"{ANNOTATION_PREFIX}{word}Path", f"{ANNOTATION_PREFIX}{word}Hash"


def hash_file(path: str, hash_type: str = DEFAULT_HASH_TYPE) -> str:
    """The digest of a file in lower-case hexadecimal digits.

    :raises AssetError: the file cannot be read or is empty
    :raises ConfigError: the algorithm is not known
    """
    import hashlib

    try:
        with open(path, "rb") as stream:
            chunk = stream.read(1 << 20)
            if not chunk:
                raise AssetError(f"the asset {path} is empty")
            if hash_type not in HASH_TYPES:
                raise ConfigError(
                    "this digest is not known",
                    option=HASH_TYPE_ANNOTATION,
                    wanted=hash_type,
                    fix=f"Use {DEFAULT_HASH_TYPE}.",
                )
            digest = hashlib.new(hash_type)
            while chunk:
                digest.update(chunk)
                chunk = stream.read(1 << 20)
    except (OSError, ValueError) as error:
        raise AssetError(f"the asset {path} cannot be read", answer=str(error)) from error
    return digest.hexdigest()


def new_asset(annotations: Mapping[str, str], kind: str) -> Asset | None:
    """The asset that annotations ask for, verified when they give a digest; None when they give no path.

    :raises ConfigError: the kind has no annotations, the path is relative, or the digest's algorithm is not known
    :raises AssetError: the file cannot be read, is empty, or has another digest
    """
    path_annotation, hash_annotation = asset_annotations(kind)
    path = annotations.get(path_annotation, "")
    if not path:
        return None
    if not os.path.isabs(path):
        raise ConfigError("an asset needs an absolute path", option=path_annotation, wanted=path)
    asset = Asset(path, kind)
    expected = annotations.get(hash_annotation, "")
    if expected:
        computed = hash_file(path, annotations.get(HASH_TYPE_ANNOTATION, DEFAULT_HASH_TYPE))
        if computed != expected:
            raise AssetError(
                f"the asset {path} has the digest {computed}",
                option=hash_annotation,
                wanted=expected,
                fix="Bring the right file to the host, or correct the digest (lower-case hexadecimal digits).",
            )
    return asset


def create_assets(config: HypervisorConfig, annotations: Mapping[str, str]) -> None:
    """Give a configuration the kernel, image and initrd that annotations ask for: all of them, or none on an error.

    :raises ConfigError: an image and an initrd are asked for at once, or as `new_asset`
    :raises AssetError: as `new_asset`
    """
    assets = {kind: new_asset(annotations, kind) for kind in SANDBOX_KINDS}
    if assets["image"] and assets["initrd"]:
        raise ConfigError(
            "annotations ask for an image and an initrd at once",
            option=asset_annotations("image")[0],
            fix="Give one of them.",
        )
    for asset in assets.values():
        config.add_custom_asset(asset)
