# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of a root image as `mmdebstrap` unpacked and set them up, kept beside the image: another user or file does not need them again.

    DIRECTORY/guest.ext4
    DIRECTORY/.guest.ext4.packages.tar.zst

The note of the image has a digest of what the packages were chosen by, and one of the archive. Only an archive that agrees with both is used.
"""

from __future__ import annotations

import os
from typing import Any, Callable

from ..host.atomic_files import put_in_place
from ..host.digests import file_digest

#: The key of the note's facts.
FACT = "kept_packages"
NAME = "packages.tar.zst"


class KeptPackages:
    """The archive beside an image.

    :param image: path of the image
    :param about: the facts in the image's note
    """

    def __init__(self, image: str, about: dict[str, Any]) -> None:
        self.path = os.path.join(os.path.dirname(image), f".{os.path.basename(image)}.{NAME}")
        noted = about.get(FACT)
        self._noted = noted if isinstance(noted, dict) else {}
        #: Whether `unpack` used the archive.
        self.reused = False

    def usable(self, chosen_by: str) -> bool:
        """Whether the archive has the packages that were chosen like this.

        :param chosen_by: digest of everything that determines the packages
        """
        if self._noted.get("chosen_by") != chosen_by or not os.path.isfile(self.path):
            return False
        return bool(file_digest(self.path) == self._noted.get("sha256"))

    def unpack(
        self, tree: str, chosen_by: str, fetch: Callable[[str], None], run: Callable[[str, list[str]], str]
    ) -> dict[str, Any]:
        """Unpack the packages into a new directory, and fetch them first unless they are there. Returns what the image's note must have.

        :param fetch: creates an archive of the packages
        :param run: runs a program to its end
        :raises HostError: a program failed
        """
        draft = f"{tree}.{NAME}"
        self.reused = self.usable(chosen_by)
        archive = self.path if self.reused else draft
        if not self.reused:
            fetch(draft)
        os.mkdir(tree, 0o755)
        # Guests have a /dev of their own, and not every host may create device nodes.
        exact = ("--numeric-owner", "--preserve-permissions", "--xattrs", "--xattrs-include=*", "--exclude=./dev/*")
        run("tar", ["--extract", "--zstd", *exact, f"--file={archive}", f"--directory={tree}"])
        return {FACT: self._noted if self.reused else {"chosen_by": chosen_by, "sha256": file_digest(archive)}}

    def keep(self, tree: str) -> None:
        """Keep what was fetched for a tree. If the task is killed before the image's note is written, the archive does not agree with it and is not used."""
        draft = f"{tree}.{NAME}"
        if os.path.exists(draft):
            os.chmod(draft, 0o600)
            put_in_place(draft, self.path)
