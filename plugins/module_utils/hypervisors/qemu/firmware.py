# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A firmware that is a flash memory (UEFI): its code is shared by all sandboxes, and each sandbox has a copy of its variables.

The copy is created at the first start, in the state directory, and goes with that. The guest writes to it: which boot loader it starts, and what
its boot loader remembers.
"""

from __future__ import annotations

import os
import stat

from ...errors import AssetError, ConfigError, HostError
from ...host.atomic_files import put_in_place, write_problem
from ...host.qcow2 import MAGIC
from ...host.sparse_files import copy_device
from ...options.config import HypervisorConfig
from ..base import Context
from .names import FIRMWARE_VARS

#: Bytes of code and variables together: QEMU's default limit (`max-fw-size` of PC machines), and what an aarch64 machine has of flash memory.
MOST_FLASH = 8 << 20
MOST_FLASH_AARCH64 = 128 << 20
#: QEMU maps flash memory in blocks of this size, bytes.
BLOCK = 4096
DRAFT = f".{FIRMWARE_VARS}.new"


def check_firmware(config: HypervisorConfig, context: Context) -> None:
    """Refuse code and variables that cannot be a flash memory, and a copy of other variables. Changes nothing.

    :raises AssetError: a file cannot be read, or is not raw
    :raises ConfigError: they are too large together, or the sandbox's copy belongs to another firmware
    """
    code, variables = (
        _checked_size(option, path)
        for option, path in (
            ("firmware_path", config.firmware_path),
            ("firmware_vars_path", config.firmware_vars_path),
        )
    )
    most = MOST_FLASH_AARCH64 if config.hypervisor_machine_type == "virt" else MOST_FLASH
    if code + variables > most:
        raise ConfigError(
            f"code and variables of a firmware must have at most {most} bytes together, and have {code + variables}",
            option="firmware_path",
            wanted=config.firmware_path,
        )
    copy = os.path.join(context.state_dir, FIRMWARE_VARS)
    try:
        size = os.lstat(copy).st_size
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise HostError("the firmware's variables cannot be read", wanted=copy, answer=str(error)) from error
    if size != variables:
        raise ConfigError(
            f"the sandbox has variables of another firmware: {copy} has {size} bytes, and the template {variables}",
            option="firmware_vars_path",
            wanted=config.firmware_vars_path,
            fix=f"Set the earlier firmware_path and firmware_vars_path, or remove {copy}: the sandbox then starts with a new copy.",
        )


def _checked_size(option: str, path: str) -> int:
    """The size of a part of a firmware, bytes."""
    try:
        with open(path, "rb") as stream:
            start, size = stream.read(len(MAGIC)), os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise AssetError("the file must be readable", option=option, wanted=path, answer=str(error)) from error
    if start == MAGIC:
        raise AssetError(
            "a firmware must be raw, and this file is qcow2",
            option=option,
            wanted=path,
            fix="Convert it with qemu-img convert -O raw, or use the distribution's raw file.",
        )
    if size % BLOCK:
        raise AssetError(
            f"the size of a firmware must be a multiple of {BLOCK} bytes, and is {size}", option=option, wanted=path
        )
    return size


def open_firmware(config: HypervisorConfig, context: Context) -> tuple[int, int]:
    """The code, opened for reading, and the sandbox's variables, opened for writing. They are copied from the template if there is no copy.

    :raises AssetError: one cannot be opened
    :raises HostError: the copy cannot be written
    """
    copy = os.path.join(context.state_dir, FIRMWARE_VARS)
    try:
        if not os.path.lexists(copy):
            with open(config.firmware_vars_path, "rb") as stream:
                _copy_variables(stream.fileno(), copy)
        code = os.open(config.firmware_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            variables = os.open(copy, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISREG(os.fstat(variables).st_mode):
                os.close(variables)
                raise AssetError("a firmware's variables must be a regular file", wanted=copy)
        except BaseException:
            os.close(code)
            raise
    except OSError as error:
        raise AssetError("the firmware cannot be opened", option="firmware_path", answer=str(error)) from error
    return code, variables


def _copy_variables(source: int, copy: str) -> None:
    """Copy the template atomically, with holes for its zeros: an aarch64 machine has 64 MiB of variables, nearly all of them zeros.

    :raises HostError: the copy cannot be written
    """
    draft = os.path.join(os.path.dirname(copy), DRAFT)
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            copy_device(source, descriptor)
        finally:
            os.close(descriptor)
        put_in_place(draft, copy)
    except OSError as error:
        raise write_problem(error, "the firmware's variables could not be copied", copy) from error
