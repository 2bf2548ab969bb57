# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a VM is made of, looked at before anything is started."""

from __future__ import annotations

import os

from ...errors import AssetError, ConfigError
from ...host.qcow2 import is_block_device
from ...options.config import DIGESTS, HypervisorConfig


def check_boot_files(config: HypervisorConfig) -> None:
    """Refuse files to boot from that are not there, are none, cannot be read, or are empty.

    :raises AssetError: names the option
    """
    for option, path in (
        ("kernel_path", config.kernel_path),
        ("initrd_path", config.initrd_path),
        ("image_path", config.image_path),
        ("initramfs_path", config.initramfs_path),
        ("firmware_path", config.firmware_path),
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


def check_digests(config: HypervisorConfig, cache: str) -> dict[str, str]:
    """Refuse files that are not those that the configuration names digests of. Changes nothing.

    :param config: complete: the driver has filled in the programs that the task does not name
    :param cache: file of digests that were found since the last boot, see `host/boot_cache.py`
    :returns: digests that are not in the cache yet and may be: of files whose every change shows
    :raises AssetError: a file has another digest, or cannot be read
    :raises ConfigError: there is a digest and no file
    """
    wanted = {option: str(getattr(config, option)) for option in DIGESTS if getattr(config, option)}
    return {question: digest for option in wanted for question, digest in _check_digest(config, option, cache)}


def _check_digest(config: HypervisorConfig, option: str, cache: str) -> list[tuple[str, str]]:
    """Compare the digest of one file; what the cache does not have of it yet."""
    from ...host import boot_cache, digests

    wanted, path = digests.named_digest(getattr(config, option), option), str(getattr(config, DIGESTS[option]))
    algorithm = wanted.partition(":")[0]
    if not path:
        raise ConfigError(
            f"there is no {DIGESTS[option]} whose digest this could be",
            option=option,
            wanted=wanted,
            fix=f"Give {DIGESTS[option]}, or leave {option} out.",
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
