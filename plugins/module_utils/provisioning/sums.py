# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of digests, in the forms in which projects publish them.

    HEX  NAME              sha256sum(1), text mode; tabs and any number of blanks too
    HEX *NAME              sha256sum(1), binary mode
    SHA256 (NAME) = HEX    BSD's sha256(1), and sha256sum --tag
    SHA2-256(NAME)= HEX    openssl-dgst(1)
    HEX                    a list of one file, whatever its name

A list may be signed (PGP, cleartext), have a byte order mark, comments, line ends of any system, and lines that are something else.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import NamedTuple

from ..errors import AssetError

#: Bytes that a list may have.
MOST_BYTES = 4 << 20
#: Which digest has so many hexadecimal digits.
ALGORITHMS = {32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}

_PLAIN = re.compile(r"(\\?)([0-9a-fA-F]{32,128})(?:[ \t]+\*?(.*)|)")
_TAGGED = re.compile(r"(\\?)([A-Za-z0-9-]+)[ \t]?\((.*)\)[ \t]*=[ \t]*([0-9a-fA-F]{32,128})")
_ESCAPED = re.compile(r"\\([\\nr])")


class Listed(NamedTuple):
    """One line: a digest, and the file that it is of; no name when the line has none."""

    name: str
    algorithm: str
    digest: str


def parse(data: bytes) -> list[Listed]:
    """The digests in a list; lines that are none are skipped.

    :raises AssetError: it is too large
    """
    if len(data) > MOST_BYTES:
        raise AssetError(f"a list of digests must have at most {MOST_BYTES} bytes")
    found = []
    # Not splitlines, which takes other characters for line ends that names may have.
    for line in re.split(r"\r\n|\n|\r", _text(data)):
        if line.startswith("-----BEGIN PGP SIGNATURE-----"):
            break
        listed = _parse_line(line[2:] if line.startswith("- ") else line)
        if listed:
            found.append(listed)
    return found


def _text(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "surrogateescape")


def _parse_line(line: str) -> Listed | None:
    line = line.strip(" \t\0")
    if match := _TAGGED.fullmatch(line):
        escaped, tag, name, digest = match.groups()
        algorithm = tag.lower().replace("sha2-", "sha").replace("-", "")
        if ALGORITHMS.get(len(digest)) != algorithm:
            return None  # Another algorithm with digests of that length, such as SM3 or BLAKE2.
    elif match := _PLAIN.fullmatch(line):
        escaped, digest, name = match.groups()
        algorithm = ALGORITHMS.get(len(digest), "")
        if not algorithm:
            return None
    else:
        return None
    name = name or ""
    if escaped:
        name = _ESCAPED.sub(lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), name)
    return Listed(os.path.normpath(name) if name else "", algorithm, digest.lower())


def digests_of(listed: list[Listed], name: str) -> dict[str, str]:
    """The digests that a list gives for a file, by algorithm; by its path in the list, or else by the end of it.

    :raises AssetError: the list gives two different ones
    """
    exact = [line for line in listed if line.name == os.path.normpath(name)]
    chosen = exact or [line for line in listed if os.path.basename(line.name) == os.path.basename(name)]
    if not chosen and len(listed) == 1 and not listed[0].name:
        chosen = listed
    digests: dict[str, str] = {}
    for line in chosen:
        if digests.setdefault(line.algorithm, line.digest) != line.digest:
            raise AssetError(f"the list has two different {line.algorithm} digests of this file", wanted=name)
    return digests


class Digests:
    """Several digests of the same bytes, made while these pass by."""

    def __init__(self, algorithms: list[str]) -> None:
        self._made = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}

    def update(self, data: bytes) -> None:
        """Further bytes."""
        for digest in self._made.values():
            digest.update(data)

    def found(self) -> dict[str, str]:
        """The digests in hexadecimal, by algorithm."""
        return {name: digest.hexdigest() for name, digest in self._made.items()}
