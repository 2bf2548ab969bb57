# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of digests in all forms in which projects publish them; what is no list gives nothing."""

from __future__ import annotations

import hashlib
import random

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import sums
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.sums import Listed, digests_of, parse

HEX = hashlib.sha256(b"x").hexdigest()
OTHER = hashlib.sha256(b"y").hexdigest()
SHA512 = hashlib.sha512(b"x").hexdigest()
WANTED = {"sha256": HEX}


@pytest.mark.parametrize(
    "text",
    [
        f"{HEX}  image.raw\n",
        f"{HEX} image.raw",
        f"{HEX} *image.raw\n",
        f"{HEX}\timage.raw\n",
        f"{HEX} \t  image.raw\r\n",
        f"{HEX.upper()}  image.raw\n",
        f"{HEX}  ./image.raw\n",
        f"{HEX}  ./daily/image.raw\n",
        f"SHA256 (image.raw) = {HEX}\n",
        f"SHA256 (./image.raw) = {HEX}\n",
        f"SHA256(image.raw)= {HEX}\n",
        f"SHA2-256(image.raw)= {HEX}\n",
        f"sha256 (image.raw) = {HEX}\n",
        f"SHA-256 (image.raw) = {HEX}\n",
        f"{OTHER}  other.raw\n{HEX}  image.raw\n{OTHER}  image.raw.xz\n",
        f"# SHA256 sums of today\n\n{HEX}  image.raw\n",
        f"{HEX}\n",
        f"{HEX}  image.raw\r{OTHER}  other",
        f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{HEX}  image.raw\n-----BEGIN PGP SIGNATURE-----\n{OTHER}  image.raw\n",
        f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n- {HEX}  image.raw\n-----BEGIN PGP SIGNATURE-----\n\nabc\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_all_usual_forms_are_understood(text: str, encoding: str) -> None:
    assert digests_of(parse(text.encode(encoding)), "image.raw") == WANTED


@pytest.mark.parametrize(
    "name", ["an image (1).raw", "image.raw (old)", "a  b", "*", "image\\name", "gr\u00f6\u00dfe.raw", "a = b"]
)
def test_names_may_have_blanks_and_more(name: str) -> None:
    escaped = name.replace("\\", "\\\\")
    mark = "\\" if "\\" in name else ""
    for line in (f"{mark}{HEX}  {escaped}\n", f"{mark}{HEX} *{escaped}\n", f"{mark}SHA256 ({escaped}) = {HEX}\n"):
        assert digests_of(parse(line.encode()), name) == WANTED, line


def test_other_algorithms_are_told_by_their_length() -> None:
    lines = [
        f"{hashlib.new(name, b'x', usedforsecurity=False).hexdigest()}  image" for name in sums.ALGORITHMS.values()
    ]
    found = digests_of(parse("\n".join(lines).encode()), "image")
    assert set(found) == set(sums.ALGORITHMS.values())
    assert found["sha512"] == SHA512


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "<html>404 Not Found</html>",
        f"{HEX[:-1]}  image.raw",
        f"{HEX}0  image.raw",
        f"SM3 (image.raw) = {HEX}",
        f"BLAKE2b (image.raw) = {SHA512}",
        f"x{HEX}  image.raw",
    ],
)
def test_what_is_no_digest_is_none(text: str) -> None:
    assert digests_of(parse(text.encode()), "image.raw") == {}


def test_another_file_of_the_list_does_not_count() -> None:
    listed = parse(f"{HEX}  other.raw\n".encode())
    assert digests_of(listed, "image.raw") == {}
    # A digest without a name is for a list of one.
    assert digests_of(parse(f"{HEX}\n{OTHER}\n".encode()), "image.raw") == {}


def test_the_path_counts_before_the_name() -> None:
    listed = parse(f"{HEX}  new/image\n{OTHER}  old/image\n".encode())
    assert digests_of(listed, "new/image") == WANTED
    with pytest.raises(AssetError, match="two different"):
        digests_of(listed, "image")


def test_a_list_has_a_limit() -> None:
    with pytest.raises(AssetError, match="at most"):
        parse(b"x" * (sums.MOST_BYTES + 1))


def test_whatever_is_in_it_nothing_else_is_raised() -> None:
    chance = random.Random(15)
    seed = f"{HEX}  image\nSHA256 (a b) = {HEX}\n\\{HEX}  a\\nb\n-----BEGIN PGP SIGNED MESSAGE-----\n".encode()
    for _number in range(5000):
        data = bytearray(seed)
        for _change in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        for line in parse(bytes(data)):
            assert isinstance(line, Listed) and len(line.digest) in sums.ALGORITHMS
