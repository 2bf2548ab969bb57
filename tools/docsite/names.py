# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a name in a text stands for: a module, a role or a plugin."""

from __future__ import annotations

import pathlib
import re
from typing import Optional

ROOT = pathlib.Path(__file__).resolve().parents[2]

#: The kinds of documented things, and the files whose names they have. A text that does not say which it means, means the first one.
KINDS = {
    "module": "plugins/modules/*.py",
    "role": "roles/kata_*",
    "filter": "plugins/filter/*.py",
    "inventory": "plugins/inventory/*.py",
    "connection": "plugins/connection/*.py",
}
NAMES = {kind: {path.stem for path in ROOT.glob(pattern)} for kind, pattern in KINDS.items()}
KIND = re.compile(rf"\b({'|'.join(KINDS)})s?\b")


def kind_of(name: str, before: str) -> Optional[str]:
    """The kind of thing that a name in a text stands for, if it is documented.

    :param before: the text before it; the kind that was mentioned last counts
    """
    kinds = [kind for kind, names in NAMES.items() if name in names]
    mentioned = [kind for kind in KIND.findall(before.lower()) if kind in kinds]
    # The names of filters and other plugins are words, so they need the mention.
    return mentioned[-1] if mentioned else next((kind for kind in kinds if name.startswith("kata_")), None)
