# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of options and devices is shown in results, diffs and errors. Pure; no-ops import it too."""

from __future__ import annotations

from typing import Any, Mapping

#: Stands in the place of what a task wants to be hidden.
HIDDEN = "(hidden)"


def shown_device(device: dict[str, Any]) -> dict[str, Any]:
    """A device as it may be seen: a suboption `hide_NAME` that is true hides the suboption NAME."""
    hidden = {name[len("hide_") :] for name, value in device.items() if name.startswith("hide_") and value}
    return {name: HIDDEN if name in hidden and value is not None else value for name, value in device.items()}


#: The options that may hold secrets.
SECRET = ("user_data", "vendor_data", "network_config")


def shown_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as they may be seen: instead of a secret, the beginning of its digest, so that a diff shows that it has changed."""
    return {name: hidden(value) if name in SECRET and value else value for name, value in options.items()}


def shown_value(name: str, value: Any) -> Any:
    """The value of one option as it may be seen. Without egress rules, a guest may connect to anywhere."""
    if name == "egress" and not value:
        return "open"
    return shown_options({name: value})[name]


def hidden(value: Any) -> str:
    """What stands in the place of a secret."""
    import hashlib
    import json

    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return f"({HIDDEN[1:-1]}, sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]})"
