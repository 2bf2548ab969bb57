# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""valid() and the template check."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer, attempt
from adapters.go_config import ASSETS, config_from_go, config_to_go, custom_assets


def run(given: dict[str, Any]) -> Answer:
    template_error = attempt(config_from_go(given.get("config")).check_template_config)[1]
    config = config_from_go(given.get("config"))
    error = attempt(config.valid)[1]
    assets = custom_assets(given.get("config"))
    # They do not count in the validation of Kata 1.x, and stay as they are.
    after = {**config_to_go(config), **({ASSETS: assets} if assets else {})}
    output = {"check_template_error": template_error, "config_after": after}
    return Answer(output, error.error if error else None)
