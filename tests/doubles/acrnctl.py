# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for acrnctl beside the stand-in for acrn-dm: `list` and `blkrescan`, with the real one's exit codes.

`list` ends with 0 and says that there are no VMs when the manager is down; `blkrescan` of a VM it does not know ends with 255,
but with 0 when the VM does not take the disk: then it only says so.

ACRN_DOUBLE_MANAGER  directory in which the VMs are
"""

from __future__ import annotations

import json
import os
import sys


def load(name: str) -> dict | None:
    path = os.path.join(MANAGER, f"{name}.json")
    try:
        with open(path, encoding="utf-8") as stream:
            vm = json.load(stream)
        os.kill(vm["pid"], 0)
    except (OSError, ValueError):
        return None
    return vm


MANAGER = os.environ.get("ACRN_DOUBLE_MANAGER", "/run/acrn/mngr")


def main() -> int:
    words = sys.argv[1:]
    if words == ["list"]:
        names = (
            sorted(name[: -len(".json")] for name in os.listdir(MANAGER) if name.endswith(".json"))
            if os.path.isdir(MANAGER)
            else []
        )
        alive = [name for name in names if load(name)]
        for name in alive:
            print(f"{name}\t\tuntracked")
        if not alive:
            print("There are no VMs")
        return 0
    if words[:1] == ["blkrescan"] and len(words) == 3:
        vm = load(words[1])
        slot, _comma, path = words[2].partition(",")
        if vm is None:
            print(f"can't find {words[1]}")
            return 255
        if vm["disks"].get(slot) != "nodisk" or not os.path.exists(path):
            print("Unable to rescan virtio-blk device in vm. errno(-1)")
            return 0
        vm["disks"][slot] = path
        with open(os.path.join(MANAGER, f"{words[1]}.json"), "w", encoding="utf-8") as stream:
            json.dump(vm, stream)
        return 0
    print("Usage: acrnctl SUB-CMD { VM-NAME | SCRIPT }", file=sys.stderr)
    return 255


if __name__ == "__main__":
    sys.exit(main())
