# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel parameters: pairs of a key and a value, and their way from and to lists of words.

Nothing is quoted or escaped on either way; who builds a command line from untrusted values checks them first
(`config.HypervisorConfig.check_consistent`).
"""

from __future__ import annotations

import re
from typing import Iterable, NamedTuple, Sequence

from ..errors import ConfigError
from ..host.words import WHITE_SPACE, split_words


class Param(NamedTuple):
    """One parameter; an empty value stands for a bare word."""

    key: str
    value: str = ""


def split_quoted_words(text: str) -> list[str]:
    """The words of a text, split at white space outside of double quotes, as the kernel splits its command line (lib/cmdline.c, next_arg)."""
    words, word, quoted = [], "", False
    for piece in re.split('(["]|' + WHITE_SPACE.pattern + ")", text):
        if piece == '"':
            quoted = not quoted
        if not quoted and WHITE_SPACE.fullmatch(piece):
            words.append(word)
            word = ""
        else:
            word += piece
    return [one for one in [*words, word] if one]


def serialize_params(params: Iterable[Param], delimiter: str = "=") -> list[str]:
    """The parameters as words: key, delimiter and value in one, or two words where the delimiter is empty.

    A pair that lacks its key or its value gives one bare word, a pair that lacks both gives none.
    """
    words = []
    for key, value in params:
        parts = [part for part in (key, value) if part]
        if delimiter and parts:
            words.append(delimiter.join(parts))
        else:
            words.extend(parts)
    return words


def deserialize_params(words: Iterable[str]) -> list[Param]:
    """The parameters in a list of words, each split at its first `=`. Empty words are skipped, nothing is trimmed."""
    params = []
    for word in words:
        if word:
            key, _equals, value = word.partition("=")
            params.append(Param(key, value))
    return params


def parse_kernel_params(text: str) -> list[Param]:
    """The parameters in a kernel command line."""
    return deserialize_params(split_words(text))


def kernel_params_string(params: Iterable[Param]) -> str:
    """The parameters as a kernel command line."""
    return " ".join(serialize_params(params))


def add_kernel_param(params: Sequence[Param], param: Param) -> list[Param]:
    """The parameters with one more at the end, where it wins over earlier ones of its key.

    :raises ConfigError: it has no key
    """
    if not param.key:
        raise ConfigError("a kernel parameter needs a name", option="kernel_params", wanted=f"={param.value}")
    return [*params, param]


def mode_params(debug: bool, image: bool) -> list[Param]:
    """The kernel parameters for a verbose or a quiet boot.

    :param image: the guest boots from an image, where systemd is
    """
    params = [Param("debug" if debug else "quiet")]
    if image:
        params.append(Param("systemd.show_status", "true" if debug else "false"))
        if debug:
            params.append(Param("systemd.log_level", "debug"))
    return params
