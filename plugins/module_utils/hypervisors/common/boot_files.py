# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the files that a VM boots from and their digests, before anything is started."""

from __future__ import annotations

import os

from ...errors import AssetError, ConfigError, Unsupported
from ...host import qcow2
from ...host.qcow2 import is_block_device
from ...options.config import DIGESTS, HypervisorConfig


def check_boot_files(config: HypervisorConfig) -> None:
    """Refuse files to boot from that do not exist, are not regular files, cannot be read, or are empty.

    :raises AssetError: a file cannot be used; the error names the option
    """
    check_root_disk(config)
    copied = config.root_disk_path and config.root_disk_format == "raw"
    for option, path in (
        ("kernel_path", config.kernel_path),
        ("initrd_path", config.initrd_path),
        # A root disk that is a copy of the image does not need it any more.
        ("image_path", "" if copied else config.image_path),
        ("initramfs_path", config.initramfs_path),
        ("firmware_path", config.firmware_path),
        ("firmware_vars_path", config.firmware_vars_path),
    ):
        if not path:
            continue
        if option == "image_path" and is_block_device(path):
            continue
        if not os.path.exists(path):
            raise AssetError(
                "the file does not exist",
                option=option,
                wanted=path,
                fix="Bring it to the host first (roles kata_kernel, kata_image and kata_firmware).",
            )
        if not os.path.isfile(path):
            raise AssetError("must be a file", option=option, wanted=path)
        try:
            with open(path, "rb") as stream:
                empty = not stream.read(1)
        except OSError as error:
            raise AssetError("the file must be readable", option=option, wanted=path, answer=str(error)) from error
        if empty:
            raise AssetError("the file must not be empty", option=option, wanted=path)


def check_root_disk(config: HypervisorConfig) -> None:
    """Refuse a root disk that cannot be used, and one in a VM that shares its state with others.

    :raises AssetError: it does not exist, cannot be opened, or names other files
    :raises Unsupported: the VM is a template, or a clone of one
    """
    path, option = config.root_disk_path, "root_disk_mb"
    if not path:
        return
    if config.boot_to_be_template or config.boot_from_template:
        raise Unsupported(
            "a template and its clones have no root disk: what their guests keep in memory is of one disk",
            option=option,
            fix="Omit root_disk_mb or template.",
        )
    if config.initrd_path:
        raise ConfigError(
            "a root disk needs an image",
            option=option,
            wanted=path,
            fix="Set image instead of initrd_path, or use volumes.",
        )
    qcow2.check_disk(path, False, option)
    qcow2.check_image(path, config.root_disk_format, option)


def check_digests(config: HypervisorConfig, cache: str) -> dict[str, str]:
    """Refuse files that do not have the digests in the configuration. Changes nothing.

    :param config: the complete configuration, with the programs that the driver filled in
    :param cache: file of digests that were found since the last boot, see `host/boot_cache.py`
    :returns: digests to add to the cache: of files whose changes can all be detected
    :raises AssetError: a file has another digest, or cannot be read
    :raises ConfigError: there is a digest without a file
    """
    wanted = {option: str(getattr(config, option)) for option in DIGESTS if getattr(config, option)}
    return {question: digest for option in wanted for question, digest in _check_digest(config, option, cache)}


def _check_digest(config: HypervisorConfig, option: str, cache: str) -> list[tuple[str, str]]:
    """Check the digest of one file. Returns the digests to add to the cache."""
    from ...host import boot_cache, digests

    wanted, path = digests.named_digest(getattr(config, option), option), str(getattr(config, DIGESTS[option]))
    algorithm = wanted.partition(":")[0]
    if not path:
        raise ConfigError(
            f"a digest must be set together with its file, {DIGESTS[option]}",
            option=option,
            wanted=wanted,
            fix=f"Set {DIGESTS[option]}, or omit {option}.",
        )
    before = digests.identity(path)
    question = f"{algorithm}:{before}"
    known = boot_cache.cache_get(cache, question) if before else None
    found = known if isinstance(known, str) else digests.file_digest(path, algorithm, DIGESTS[option])
    if f"{algorithm}:{found}" != wanted:
        raise AssetError(
            f"{path} has the digest {algorithm}:{found}",
            option=option,
            wanted=wanted,
            fix=f"Bring the right file to the host, or correct {option}.",
        )
    return [(question, found)] if before and known is None and digests.identity(path) == before else []
