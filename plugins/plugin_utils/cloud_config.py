# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check on the controller that cloud-configs and network configurations are valid YAML, which a host has no parser for."""

from __future__ import annotations

import email
from typing import Any, Mapping

import yaml

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.options.identity import (
    CLOUD_CONFIG,
    checked_hostname,
    checked_network_config,
    checked_ssh_keys,
    checked_user_data,
)

ARCHIVE = "#cloud-config-archive"
#: Versions of network configurations that cloud-init knows.
NETWORK_VERSIONS = (1, 2)


def check_identity(options: Mapping[str, Any], sandbox: str = "") -> None:
    """Refuse options of a sandbox that its guest could not use.

    :param options: a task's options by name, of which only those that become the seed are looked at
    :param sandbox: its id, for errors
    :raises ConfigError: one is invalid; the error names the option and the line, and never shows a secret
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        if "hostname" in given:
            checked_hostname(given["hostname"])
        if "ssh_keys" in given:
            checked_ssh_keys(given["ssh_keys"])
        for option in ("user_data", "vendor_data"):
            if option in given:
                _check_user_data(checked_user_data(given[option], option), option)
        if "network_config" in given:
            _check_network_config(checked_network_config(given["network_config"]))
    except ConfigError as problem:
        problem.sandbox = problem.sandbox or sandbox
        raise


def _check_user_data(text: str, option: str) -> None:
    first = text.split("\n", 1)[0]
    if first.startswith(("Content-Type:", "MIME-Version:")):
        for part in email.message_from_string(text).walk():
            if part.get_content_type() == "text/cloud-config":
                payload = part.get_payload(decode=True)
                content = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
                _loaded(content, option, dict, f" in the part {part.get_filename() or 'without a name'}")
    elif first.startswith(ARCHIVE):
        _loaded(text, option, list)
    elif first.startswith(CLOUD_CONFIG):
        _loaded(text, option, dict)


def _check_network_config(text: str) -> None:
    if not text:
        return
    value = _loaded(text, "network_config", dict)
    inner = value.get("network", value)
    if not isinstance(inner, dict) or inner.get("version") not in NETWORK_VERSIONS:
        # cloud-init also takes the one word that switches it off.
        if isinstance(inner, dict) and inner.get("config") == "disabled":
            return
        raise ConfigError(
            "must have a version, 1 or 2",
            option="network_config",
            fix="Add a line such as version: 2 at the top level.",
        )


def _loaded(text: str, option: str, kind: type, where: str = "") -> Any:
    """A YAML document, which must be of a kind; an empty one is an empty value of that kind.

    :raises ConfigError: it is not valid, or of another kind
    """
    problem, line = "", 0
    try:
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem, line = error.problem or "", mark.line + 1 if mark else 0
    except yaml.reader.ReaderError as error:
        problem, line = "it has a character that YAML does not allow", text.count("\n", 0, int(error.position)) + 1
    except (ValueError, RecursionError) as error:
        problem = f"a value of it cannot be read ({type(error).__name__})"
    else:
        if value is None:
            return kind()
        if isinstance(value, kind):
            return value
        problem = f"it must be a {'list' if kind is list else 'dictionary'}"
    place = f" (line {line}{where})" if line else where
    raise ConfigError(f"must be valid YAML{place}", option=option, answer=problem, fix="Correct that line.")
