# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs on a host: what their last line says, whatever else the host prints."""

from __future__ import annotations

import pytest

from ansible_collections.kata.hypervisor.plugins.plugin_utils.host_program import HostProgramError, HostPrograms


class Host:
    """A host whose program prints something, its last line, and something again."""

    takes_input = True

    def __init__(self, ending: bytes, after: bytes = b"") -> None:
        self.ending, self.after = ending, after

    def run(self, words: list[str], _stdin: bytes) -> tuple[int, bytes, bytes]:
        # The arguments of the program are its digest, its name, the nonce and "-".
        return 0, b"output\n" + words[-2].encode() + b" " + self.ending + b"\n" + self.after, b"errors"


def test_what_a_shell_prints_at_its_end_does_not_matter() -> None:
    done = HostPrograms(Host(b'{"code": 7}', b"logout\n"), "python3").run("any", {})
    assert (done.ending, done.stdout, done.stderr) == ({"code": 7}, b"output", b"errors")


@pytest.mark.parametrize("ending", [b"", b"{", b'{"code": 7} more'])
def test_a_last_line_that_is_none(ending: bytes) -> None:
    with pytest.raises(HostProgramError, match="not JSON"):
        HostPrograms(Host(ending), "python3").run("any", {})
