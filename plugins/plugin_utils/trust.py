# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which texts are templates: those of this collection, and none that a host or a guest has written."""

from __future__ import annotations

from typing import Any

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core before 2.19, where every text is a template unless it is marked
    trust_as_template = None


def trusted(text: str) -> Any:
    """A text of ours that is a template."""
    return text if trust_as_template is None else trust_as_template(text)


def untrusted(value: Any) -> Any:
    """A value of a host or of a guest, in which no text is a template."""
    if trust_as_template is not None:
        return _plain(value)
    from ansible.utils.unsafe_proxy import wrap_var

    return wrap_var(_plain(value))


def _plain(value: Any) -> Any:
    """The value made of plain types, without the marks that Ansible may have set."""
    if isinstance(value, dict):
        return {_plain(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return "".join(value) if isinstance(value, str) else value
