# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a guest boots from, looked at before anything is started."""

from __future__ import annotations

import os

from ...errors import AssetError
from ...host.qcow2 import is_block_device
from ...options.config import HypervisorConfig


def check_boot_files(config: HypervisorConfig) -> None:
    """Refuse files to boot from that are not there, are none, cannot be read, or are empty.

    :raises AssetError: names the option
    """
    for option, path in (
        ("kernel_path", config.kernel_asset_path()),
        ("initrd_path", config.initrd_asset_path()),
        ("image_path", config.image_asset_path()),
        ("initramfs_path", config.initramfs_path),
        ("firmware_path", config.firmware_asset_path()),
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
