# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates the pictures of docs/ and the table of states in docs/lifecycle.md.

Usage: python -m tools.diagrams [--check]

The layers come from `layers.py`. The states and the steps between them come from the planner itself: each state is planned to each other one.
With `--check` nothing is written, and the exit code is 1 when a file is not current.
"""

from __future__ import annotations

import html
import pathlib
import re
import sys
import textwrap
from typing import NamedTuple, Optional

import tests.support.checkout
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.planner import make_plan
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.states import state_of
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DisruptionError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Observed
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec
from ansible_collections.kata.hypervisor.plugins.module_utils.records.store import SandboxRecord
from tools.layers import LAYERS

ROOT = tests.support.checkout.ROOT
LAYERS_PICTURE = ROOT / "docs/images/layers.svg"
STATES_PICTURE = ROOT / "docs/images/states.svg"
LIFECYCLE = ROOT / "docs/lifecycle.md"

# --- states ------------------------------------------------------------------------------------------------------------

#: The states that a task can set, in the order of the table's columns.
GOALS = ("started", "paused", "stopped", "saved", "restarted", "absent")


class Situation(NamedTuple):
    """What is recorded of a sandbox and what is true of its VM."""

    record: Optional[SandboxRecord]
    observed: Observed


def recorded(desired: str, phase: str = "", saved_state: str = "") -> SandboxRecord:
    """The record of a sandbox that needs nothing else."""
    known = SandboxRecord("web", "mock", {"kernel_path": "/k", "initrd_path": "/i"}, {}, desired=desired)
    known.phase = phase or known.phase
    known.saved_state = saved_state
    return known


#: An example of each state.
SITUATIONS = {
    "absent": Situation(None, Observed()),
    "stopped": Situation(recorded("stopped"), Observed()),
    "started": Situation(recorded("started"), Observed("running")),
    "paused": Situation(recorded("paused"), Observed("paused")),
    "saved": Situation(recorded("saved", saved_state="/saved"), Observed()),
    "crashed": Situation(recorded("started"), Observed()),
    "failed": Situation(recorded("started"), Observed("failed")),
    "incomplete": Situation(recorded("started", phase="starting"), Observed()),
    "unresponsive": Situation(recorded("started"), Observed("unresponsive")),
}


class Transition(NamedTuple):
    """The steps from one state to another, and the `disruption` that they need."""

    steps: tuple[str, ...]
    disruption: str = "none"


def transition(state: str, goal: str) -> Transition:
    """What the planner does for a task that sets this state."""
    record, observed = SITUATIONS[state]
    assert state_of(record, observed) == state, f"the example of {state} is in another state"
    options = {"kernel_path": "/k", "initrd_path": "/i"} if record is None else {}
    for disruption in ("none", "restart"):
        spec = SandboxSpec("web", state=goal, hypervisor="mock", options=options, disruption=disruption)
        try:
            return Transition(tuple(make_plan(spec, record, observed).actions), disruption)
        except DisruptionError:
            continue
    raise AssertionError(f"no plan leads from {state} to {goal}")


def edges() -> dict[tuple[str, str], Transition]:
    """The transitions that are not made of two others."""
    known = {
        (state, goal): transition(state, goal)
        for state in SITUATIONS
        for goal in GOALS
        if goal not in (state, "restarted")
    }
    known = {pair: found for pair, found in known.items() if found.steps}

    def is_made_of_others(state: str, goal: str) -> bool:
        wanted = known[state, goal].steps
        return any(
            known[state, middle].steps + known[middle, goal].steps == wanted
            for middle in SITUATIONS
            if (state, middle) in known and (middle, goal) in known
        )

    return {pair: found for pair, found in known.items() if not is_made_of_others(*pair)}


def states_table() -> str:
    """The table of all states and goals, as Markdown."""
    lines = ["| state | " + " | ".join(f"`state: {goal}`" for goal in GOALS) + " |", "|---" * (len(GOALS) + 1) + "|"]
    for state in SITUATIONS:
        cells = []
        for goal in GOALS:
            steps, disruption = transition(state, goal)
            cells.append(", ".join(steps) + (" (*)" if disruption == "restart" else "") if steps else "nothing")
        lines.append(f"| {state} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# --- drawing -----------------------------------------------------------------------------------------------------------

STYLE = """\
  <style>
    text { font: 13px sans-serif; fill: #1b1f24; }
    .name { font-weight: bold; }
    .small { font-size: 11.5px; fill: #57606a; }
    .box { fill: #eef4fb; stroke: #4a6fa5; stroke-width: 1.2; }
    .fault { fill: #fdf0ee; stroke: #b3543f; stroke-width: 1.2; }
    .layer { fill: #f6f8fa; stroke: #d0d7de; }
    .arrow { fill: none; stroke: #4a6fa5; stroke-width: 1.4; marker-end: url(#head); }
    .event { fill: none; stroke: #b3543f; stroke-width: 1.2; stroke-dasharray: 5 4; marker-end: url(#event-head); }
  </style>
  <defs>
    <marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
      <path d="M 0 0 L 10 5 L 0 10 z" fill="#4a6fa5"/>
    </marker>
    <marker id="event-head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
      <path d="M 0 0 L 10 5 L 0 10 z" fill="#b3543f"/>
    </marker>
  </defs>
"""


def picture(width: int, height: int, title: str, body: list[str]) -> str:
    """An SVG file."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img">\n  <title>{html.escape(title)}</title>\n{STYLE}'
        f'  <rect width="{width}" height="{height}" fill="#ffffff"/>\n'
        + "".join(f"  {line}\n" for line in body)
        + "</svg>\n"
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> str:
    """One line of text."""
    attribute = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{attribute}>{html.escape(words)}</text>'


def file_name(package: str) -> str:
    """What the picture calls a package, which can be one file."""
    return f"{package}.py" if (ROOT / f"plugins/module_utils/{package}.py").exists() else f"{package}/"


def layers_picture() -> str:
    """The packages of `plugins/module_utils`, one row for each layer, the lowest at the bottom."""
    width, top, gap, left = 940, 74, 12, 44
    layers = sorted({layer for layer, _text in LAYERS.values()}, reverse=True)
    body = [
        text(width / 2, 28, "modules, action plugins, filters; roles and playbooks above them", "name"),
        text(width / 2, 50, "A package imports only from the layers below its own.", "small"),
    ]
    y = top
    for layer in layers:
        packages = [(name, words) for name, (number, words) in LAYERS.items() if number == layer]
        box = (width - 16 - left - gap * len(packages)) / len(packages)
        lines = [textwrap.wrap(words, int(box / 6.2)) for _name, words in packages]
        height = 48 + 15 * max(map(len, lines))
        body.append(f'<rect class="layer" x="8" y="{y}" width="{width - 16}" height="{height}" rx="6"/>')
        body.append(text(26, y + height / 2 + 5, str(layer), "name"))
        for column, (name, _words) in enumerate(packages):
            x = left + column * (box + gap) + 4
            body.append(f'<rect class="box" x="{x:g}" y="{y + 8}" width="{box:g}" height="{height - 16}" rx="5"/>')
            body.append(text(x + box / 2, y + 28, file_name(name), "name"))
            body += [text(x + box / 2, y + 46 + at * 15, line, "small") for at, line in enumerate(lines[column])]
        y += height + gap
    return picture(width, y, "The layers of plugins/module_utils", body)


#: Where each state is drawn: the center of its box.
PLACES = {
    "unresponsive": (110, 150),
    "crashed": (430, 130),
    "absent": (110, 300),
    "stopped": (430, 300),
    "started": (780, 300),
    "paused": (780, 460),
    "saved": (430, 460),
}
#: States that are drawn in the box of another one, since the same steps lead out of them.
DRAWN_WITH = {"failed": "crashed", "incomplete": "crashed"}
FAULTS = ("crashed", "unresponsive")
#: How far the middle of an arrow is away from the straight line, so that arrows between the same states do not cover each other.
BENDS = {
    ("absent", "stopped"): 20,
    ("stopped", "absent"): 20,
    ("stopped", "started"): 26,
    ("started", "paused"): 28,
    ("paused", "started"): 28,
    ("paused", "saved"): 22,
    ("saved", "paused"): 22,
}
#: What happens without a task, and the bend of its arrow.
EVENTS = {
    ("started", "stopped"): ("the guest shuts down or reboots", 28),
    ("started", "crashed"): ("the guest or the VMM fails", 0),
}
BOX = (118, 40)


def arrow(pair: tuple[str, str], words: str, kind: str, bend: float) -> list[str]:
    """An arrow from one state to another with its label in the middle."""
    (x1, y1), (x2, y2) = PLACES[pair[0]], PLACES[pair[1]]
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    across = ((y2 - y1) / length, (x1 - x2) / length)
    middle = ((x1 + x2) / 2 + across[0] * bend * 2, (y1 + y2) / 2 + across[1] * bend * 2)
    start, end = edge_of_box((x1, y1), middle), edge_of_box((x2, y2), middle)
    label = ((start[0] + end[0]) / 4 + middle[0] / 2, (start[1] + end[1]) / 4 + middle[1] / 2)
    path = f"M {start[0]:.0f} {start[1]:.0f} Q {middle[0]:.0f} {middle[1]:.0f} {end[0]:.0f} {end[1]:.0f}"
    x, y, width = round(label[0]), round(label[1]), round(len(words) * 6.3 + 6)
    return [
        f'<path class="{kind}" d="{path}"/>',
        f'<rect x="{x - width / 2:g}" y="{y - 9}" width="{width}" height="17" fill="#ffffff"/>',
        text(x, y + 4, words, "small"),
    ]


def edge_of_box(center: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """The point on the border of a state's box in this direction."""
    dx, dy = towards[0] - center[0], towards[1] - center[1]
    scale = min(
        (BOX[0] / 2 + 3) / abs(dx) if dx else float("inf"),
        (BOX[1] / 2 + 3) / abs(dy) if dy else float("inf"),
    )
    return center[0] + dx * scale, center[1] + dy * scale


def states_picture() -> str:
    """The states of a sandbox and the steps between them."""
    body = [
        text(
            16,
            26,
            "Solid: a task sets this state, and takes these steps. Dashed: happens without a task.",
            "small",
            "start",
        ),
        text(
            16,
            44,
            "A task can set any state from any other; its steps are those of the arrows on the way.",
            "small",
            "start",
        ),
        text(16, 62, "(*) needs disruption: restart. state: absent is possible in every state.", "small", "start"),
    ]
    found = edges()
    for state, other in DRAWN_WITH.items():
        same = [{goal: steps for (start, goal), steps in found.items() if start == one} for one in (state, other)]
        assert same[0] == same[1], f"{state} needs a box of its own"
    for pair, (steps, disruption) in found.items():
        if pair[0] in PLACES and (pair[1] != "absent" or pair[0] == "stopped"):
            label = ", ".join(steps) + (" (*)" if disruption == "restart" else "")
            body += arrow(pair, label, "arrow", BENDS.get(pair, 0))
    for pair, (label, bend) in EVENTS.items():
        body += arrow(pair, label, "event", bend)
    for state, (x, y) in PLACES.items():
        names = [state, *(name for name, other in DRAWN_WITH.items() if other == state)]
        height = BOX[1] + 18 * (len(names) - 1)
        kind = "fault" if state in FAULTS else "box"
        top = y - height / 2
        body.append(
            f'<rect class="{kind}" x="{x - BOX[0] / 2:g}" y="{top:g}" width="{BOX[0]}" height="{height}" rx="8"/>'
        )
        body += [text(x, top + 25 + 18 * number, name, "name") for number, name in enumerate(names)]
    return picture(900, 500, "The states of a sandbox", body)


# --- files -------------------------------------------------------------------------------------------------------------

TABLE = re.compile(r"(<!-- the table of states: make docs -->\n).*?(\n<!-- end of the table -->)", re.DOTALL)


def files() -> dict[pathlib.Path, str]:
    """All generated files with their content."""
    page = LIFECYCLE.read_text(encoding="utf-8")
    assert TABLE.search(page), f"{LIFECYCLE} has no place for the table"
    return {
        LAYERS_PICTURE: layers_picture(),
        STATES_PICTURE: states_picture(),
        LIFECYCLE: TABLE.sub(lambda found: found[1] + states_table() + found[2], page),
    }


def main() -> int:
    """Write the files, or compare them."""
    stale = []
    for path, content in files().items():
        if "--check" not in sys.argv[1:]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != content:
            stale.append(str(path.relative_to(ROOT)))
    if stale:
        print(f"not current: {', '.join(stale)}; run make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
