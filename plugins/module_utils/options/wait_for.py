# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse and validate the option `wait_for`."""

from __future__ import annotations

import re
from typing import Any

from ..errors import ConfigError

#: The kinds of conditions; `engine/waiting.py` has the function of each.
KINDS = ("running", "console", "agent", "port", "ssh", "cloud_init", "address", "stopped")

DEFAULT_TIMEOUT = 60.0


def parse_wait_for(value: Any, timeout: float = DEFAULT_TIMEOUT) -> dict[str, Any] | None:
    """The option `wait_for` as a dictionary with `kind` (of `KINDS`), `argument` and `timeout` (seconds). None if it is omitted.

    :param value: `running`, `console: REGEX` or `console=REGEX`, or a dictionary
    :raises ConfigError: it is invalid
    """

    def wrong(message: str) -> ConfigError:
        kinds = ", ".join(KINDS)
        return ConfigError(
            message, option="wait_for", wanted=value, fix=f"Use one of {kinds}, such as 'console: login'."
        )

    if value in (None, "", {}):
        return None
    if isinstance(value, str):
        # On a command line an equals sign is easier to write than a colon.
        kind, argument = [*re.split("[:=]", value, maxsplit=1), ""][:2]
        value = {kind.strip(): argument.strip()}
    if not isinstance(value, dict):
        raise wrong("must be text or a dictionary")
    condition = dict(value)
    seconds = condition.pop("timeout", timeout)
    try:
        if isinstance(seconds, bool):
            raise ValueError("true and false are not numbers")
        seconds = float(seconds)
    except (TypeError, ValueError, OverflowError) as problem:
        raise wrong("the timeout must be a number of seconds") from problem
    if len(condition) != 1 or not set(condition) <= set(KINDS) or not 0 < seconds < 86400:
        raise wrong("must be one condition, with a timeout of up to a day")
    kind, argument = condition.popitem()
    if kind == "console":
        try:
            if not argument or not isinstance(argument, str) or "\0" in argument or len(argument) > 4096:
                raise wrong("the console must be matched by a regular expression of at most 4096 characters")
            re.compile(argument.encode())
        except (re.error, RecursionError, OverflowError, UnicodeEncodeError) as problem:
            raise wrong(f"must be a regular expression: {problem}") from problem
    if kind in ("ssh", "cloud_init", "address") and (argument is None or argument is True):
        argument = ""
    if kind == "cloud_init" and argument != "":
        raise wrong("cloud_init must not have a value")
    if kind == "address" and argument != "":
        import ipaddress

        try:
            argument = str(ipaddress.ip_address(argument))
        except ValueError as problem:
            raise wrong("the address must be an IP address, or be omitted") from problem
    if kind == "port" or (kind == "ssh" and argument != ""):
        port = str(argument).rpartition(":")[2]
        if isinstance(argument, bool) or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
            raise wrong(
                "a port must be a number from 1 to 65535, with an address and a colon before it where the guest has no agent"
            )
    return {"kind": kind, "argument": argument, "timeout": seconds}
