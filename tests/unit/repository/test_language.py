# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that users read are in plain English: no word of the list below.

These are the pages, the documentation of modules, filters, roles and options, the names of tasks, and the changelog.
"""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]

#: Patterns of words that we do not use, and what to use instead.
BANNED = {
    # The rule of the project.
    r"wish(?:es|ed)?": "option, request",
    r"said|told": "set, requested, returned, reported",
    r"tells? (?:of|that|what|which|whether|how|why)": "reports, shows, explains",
    r"anew": "again",
    r"br(?:ing|ings|ought) about": "make, apply",
    r"whole number": "integer",
    r"whole": "complete, atomic",
    r"houses?|rooms?|floors?": "package, layer; address space, disk space",
    r"holes?": "vulnerability; a file with holes is sparse",
    r"have it \w+(?:ed|n)|have it run": "run, create",
    r"the original(?:'s)?": "Kata 1.x",
    r"spoken|spoke|speaks?": "sent, used, connected",
    r"foretold|foretells?": "predicted",
    r"what (?:it|this|that) takes|it takes": "what it needs; it needs",
    # Of the same kind.
    r"br(?:ings?|ought) back": "start again, restore",
    r"mak(?:e|es|ing) good|made good": "repair",
    r"half[- ]made": "incomplete",
    r"refused by (?:its |the )?name": "refused; the error names it",
    r"take[sn]? away": "remove, detach",
    r"take[sn]? up again": "continue, use again",
    r"hand(?:s|ed) over": "pass",
    r"shall": "must, is to",
    r"when not given|where not given": "the default is, if omitted",
    r"own words|words of its own|in the words of": "message, format",
    r"otherwise than": "different from",
    r"vouch(?:es|ed)?": "verify",
    r"freezes?|froze|frozen": "pause",
    r"nobody's|somebody|somebody's": "another user, another program",
    r"locks? the VMM in": "runs in a jail",
    r"as it stands|as they stand": "unchanged",
}
PATTERN = re.compile("|".join(rf"\b(?P<w{number}>{words})\b" for number, words in enumerate(BANNED)), re.IGNORECASE)
#: Text that is not prose: code, addresses, Ansible's markup of names and values.
NOT_PROSE = re.compile(
    r"^```.*?^```|^    .*?$|``[^`]*``|`[^`]*`|\]\([^)]*\)|https?://\S+|\b[OVCMPLRE]V?\([^)]*\)|<!--.*?-->",
    re.DOTALL | re.MULTILINE,
)


class Text(NamedTuple):
    """One text and where it is."""

    place: str
    content: str


def found_in(text: str) -> list[str]:
    """The words of the list in a text, each with its replacement."""
    prose = NOT_PROSE.sub(" ", text)
    words = list(BANNED)
    return [
        f"{match[0]!r}: use {BANNED[words[int(str(match.lastgroup)[1:])]]}"
        for match in PATTERN.finditer(re.sub(r"\s+", " ", prose))
    ]


def strings_of(value: Any, keys: tuple[str, ...]) -> Iterator[str]:
    """All texts below these keys of a nested value."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in keys:
                yield from leaves(item)
            elif isinstance(item, (dict, list)):
                yield from strings_of(item, keys)
    elif isinstance(value, list):
        for item in value:
            yield from strings_of(item, keys)


def leaves(value: Any) -> Iterator[str]:
    """All texts in a nested value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)


def documented_in(path: pathlib.Path) -> str:
    """The documentation in a module, a filter or a fragment: DOCUMENTATION, EXAMPLES and RETURN, or the texts of a fragment's class."""
    texts = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        if names and (names[0].isupper() or names[0].startswith("_")):
            for constant in ast.walk(node.value) if node.value else ():
                if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                    texts.append(constant.value)
    parts = []
    for text in texts:
        if text.startswith("\n"):
            loaded = yaml.safe_load(text if not text.startswith("\n  ") else f"options:{text}")
            parts += strings_of(loaded, ("description", "short_description", "notes", "details", "name", "returned"))
    return "\n".join(parts)


def named_in(items: Any) -> Iterator[str]:
    """The names of plays, tasks and handlers, also in blocks."""
    for item in items or []:
        yield str(item.get("name", ""))
        for part in ("pre_tasks", "tasks", "post_tasks", "handlers", "block", "rescue", "always"):
            yield from named_in(item.get(part))


def texts() -> Iterator[Text]:
    """Everything that users read."""
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("roles/*/README.md"),
    ]
    for path in sorted(pages):
        yield Text(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    for folder in ("modules", "filter", "doc_fragments"):
        for path in sorted((ROOT / "plugins" / folder).glob("*.py")):
            yield Text(str(path.relative_to(ROOT)), documented_in(path))
    for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        specs = yaml.safe_load(path.read_text(encoding="utf-8"))
        yield Text(
            str(path.relative_to(ROOT)), "\n".join(strings_of(specs, ("description", "short_description", "details")))
        )
    tasks = [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/handlers/*.yml"), *ROOT.glob("playbooks/*.yml")]
    for path in sorted(tasks):
        names = named_in(yaml.safe_load(path.read_text(encoding="utf-8")))
        yield Text(str(path.relative_to(ROOT)), "\n".join(names))
    for path in sorted(ROOT.glob("changelogs/fragments/*.yml")):
        yield Text(str(path.relative_to(ROOT)), "\n".join(leaves(yaml.safe_load(path.read_text(encoding="utf-8")))))


TEXTS = list(texts())


def test_texts_of_every_kind_are_read() -> None:
    kinds = {place: len(content) for place, content in TEXTS}
    assert len(kinds) > 80
    for place in ("README.md", "docs/qemu.md", "plugins/modules/kata_sandbox.py", "changelogs/fragments"):
        assert any(kind.startswith(place) and size > 100 for kind, size in kinds.items()), place
    assert kinds["plugins/doc_fragments/sandbox_options.py"] > 10_000


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.place)
def test_no_banned_words(text: Text) -> None:
    assert found_in(text.content) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("The wish of the task", 1),
        ("It is made anew, as told", 2),
        ("a wishlist, an untold story, a household", 0),
        ("the option `wish` and V(whole)", 0),
        ("an integer and a whole\nnumber", 1),
        ("houses are wholesome", 1),
        ("    code that was told", 0),
    ],
)
def test_what_is_found(text: str, count: int) -> None:
    assert len(found_in(text)) == count
