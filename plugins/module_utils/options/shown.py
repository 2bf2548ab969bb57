# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a device is shown in results, diffs and errors. Pure; no-ops import it too."""

from __future__ import annotations

from typing import Any

#: Stands in the place of what a task wants to be hidden.
HIDDEN = "(hidden)"


def shown_device(device: dict[str, Any]) -> dict[str, Any]:
    """A device as it may be seen: a suboption `hide_NAME` that is true hides the suboption NAME."""
    hidden = {name[len("hide_") :] for name, value in device.items() if name.startswith("hide_") and value}
    return {name: HIDDEN if name in hidden and value is not None else value for name, value in device.items()}
