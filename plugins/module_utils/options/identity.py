# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that tell a guest who it is: host name, ssh keys, user data, vendor data and network configuration. Pure.

They may hold secrets, so no error shows a value of them, except a host name.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
from typing import Any

from ..errors import ConfigError

#: The most bytes of one file of a seed.
MOST_BYTES = 1 << 20
#: The longest host name that Linux takes (HOST_NAME_MAX), and the longest part of one (RFC 1123).
LONGEST_HOSTNAME = 64
HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
MOST_KEYS = 200
KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
CLOUD_CONFIG = "#cloud-config"
#: What the first line of user data can begin with (cloud-init's documentation, "User data formats").
FORMS = (
    "#!",
    CLOUD_CONFIG,
    "#cloud-config-archive",
    "#cloud-boothook",
    "#include",
    "#include-once",
    "#part-handler",
    "## template: jinja",
    "Content-Type: multipart/",
    "MIME-Version: 1.",
)
#: The forms that are the beginning of a word.
PREFIXES = ("#!", "Content-Type: multipart/", "MIME-Version: 1.")


def checked_hostname(value: Any) -> str:
    """A host name, with or without a domain. Empty for none.

    :raises ConfigError: it cannot be the name of a host
    """
    if value == "":
        return ""
    if not isinstance(value, str) or len(value) > LONGEST_HOSTNAME or not HOSTNAME.fullmatch(value):
        raise ConfigError(
            f"must be a host name of at most {LONGEST_HOSTNAME} characters",
            option="hostname",
            wanted=value,
            fix="Use the characters A-Z a-z 0-9 and -, in parts of at most 63 with dots between them. A part must not begin or end with -.",
        )
    return value


def checked_ssh_keys(value: Any) -> list[str]:
    """Public keys, one a line, as in a file `authorized_keys`. Items with many lines are split; empty lines and comments are omitted.

    :raises ConfigError: something is not a public key; the error names its place and never its text
    """
    if not isinstance(value, list):
        raise ConfigError("must be a list of public keys", option="ssh_keys")
    keys: list[str] = []
    for number, item in enumerate(value, 1):
        lines = item.splitlines() if isinstance(item, str) else [""]
        found = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        problem = "" if found else "it is empty"
        for line in found:
            problem = problem or _key_problem(line)
        if problem:
            raise ConfigError(
                f"item {number} must be a public key: {problem}",
                option="ssh_keys",
                fix="Write the content of a file such as ~/.ssh/id_ed25519.pub.",
            )
        keys += [line for line in found if line not in keys]
    if len(keys) > MOST_KEYS:
        raise ConfigError(f"must be at most {MOST_KEYS} public keys", option="ssh_keys", wanted=len(keys))
    return keys


def _key_problem(line: str) -> str:
    """Why a line is not a public key; empty if it is one. Options may stand before the key (sshd(8), AUTHORIZED_KEYS FILE FORMAT)."""
    if "PRIVATE KEY" in line:
        return "this is a private key, which must never leave its owner's machine"
    if not line.isprintable():
        return "it has a character that cannot be printed"
    words = line.split(" ")
    place = next((place for place, word in enumerate(words) if word in KEY_TYPES), len(words))
    if place + 1 >= len(words):
        return f"it must have one of the types {', '.join(KEY_TYPES)}, and the key after it"
    kind = words[place].encode()
    try:
        blob = base64.b64decode(words[place + 1], validate=True)
    except (binascii.Error, ValueError):
        return "the key must be written in base64"
    return "" if blob.startswith(struct.pack(">I", len(kind)) + kind) else "the key is cut off or of another type"


def checked_user_data(value: Any, option: str = "user_data") -> str:
    """User data, or vendor data, as text. Empty for none.

    :param value: text in one of `FORMS`, or a dictionary, which becomes a cloud-config
    :raises ConfigError: it is neither, or too long
    """
    if isinstance(value, dict):
        return _bounded(f"{CLOUD_CONFIG}\n{_json(value, option)}\n" if value else "", option)
    if not isinstance(value, str) or "\0" in value:
        raise ConfigError("must be text or a dictionary", option=option)
    if value and not _is_known_form(value):
        raise ConfigError(
            "must begin in a form that cloud-init knows",
            option=option,
            fix=f"Begin the first line with {CLOUD_CONFIG} or #!, or with one of {', '.join(FORMS[2:])}.",
        )
    return _bounded(value, option)


def _is_known_form(text: str) -> bool:
    first = text.split("\n", 1)[0].rstrip()
    return any(first == form or first.startswith(form if form in PREFIXES else f"{form} ") for form in FORMS)


def checked_network_config(value: Any) -> str:
    """A network configuration of version 1 or 2 as text. Empty for none. That text is valid YAML is checked on the controller.

    :raises ConfigError: it is neither text nor a dictionary, or too long
    """
    if isinstance(value, dict):
        return _bounded(f"{_json(value, 'network_config')}\n" if value else "", "network_config")
    if not isinstance(value, str) or "\0" in value:
        raise ConfigError("must be text or a dictionary", option="network_config")
    return _bounded(value if value.strip() else "", "network_config")


def _bounded(text: str, option: str) -> str:
    """The text, which must be short enough for a seed.

    :raises ConfigError: it is longer, or cannot be written in UTF-8
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as problem:
        raise ConfigError("must be text that UTF-8 can write", option=option) from problem
    if size > MOST_BYTES:
        raise ConfigError(
            f"must be at most {MOST_BYTES} bytes long, and has {size}",
            option=option,
            fix="Let the guest fetch the rest (#include or write_files with a source), or attach a volume.",
        )
    return text


def _json(value: Any, option: str) -> str:
    """A value as JSON that every YAML parser reads as the same value.

    YAML allows printable characters only and knows no surrogate pairs, so what cannot be printed is escaped as YAML does it.

    :raises ConfigError: it cannot be written
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as problem:
        raise ConfigError("must be made of text, numbers, lists and dictionaries", option=option) from problem
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in text)
