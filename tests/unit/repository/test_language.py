# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that people read are in plain English: no word of the list below.

For users, these are the pages, the documentation of modules, filters, roles and options, the names of tasks, and the changelog.
For contributors and users, these are the docstrings, the comments and the strings of the code, error texts among them.
"""

from __future__ import annotations

import ast
import inspect
import io
import pathlib
import re
import tokenize
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

#: Code whose docstrings, comments and strings are checked.
CODE = [
    "plugins/action",
    "plugins/filter",
    "plugins/module_utils/delivery",
    "plugins/module_utils/engine",
    "plugins/module_utils/errors.py",
    "plugins/module_utils/guest",
    "plugins/module_utils/host",
    "plugins/module_utils/hypervisors/__init__.py",
    "plugins/module_utils/hypervisors/base.py",
    "plugins/module_utils/hypervisors/common",
    "plugins/module_utils/hypervisors/host_facts.py",
    "plugins/module_utils/hypervisors/mock.py",
    "plugins/module_utils/options/arguments.py",
    "plugins/module_utils/options/config.py",
    "plugins/module_utils/options/declarations.py",
    "plugins/module_utils/options/kata_toml.py",
    "plugins/module_utils/options/kernel_params.py",
    "plugins/module_utils/options/network_options.py",
    "plugins/module_utils/options/spec.py",
    "plugins/module_utils/options/wait_for.py",
    "plugins/module_utils/provisioning",
    "plugins/module_utils/records",
    "plugins/module_utils/resources",
    "plugins/module_utils/untrusted",
    "plugins/modules",
    "plugins/plugin_utils",
    "tools",
]
#: Names of Python's own libraries, such as `dataclass(frozen=True)`.
FOREIGN = {"frozen"}
#: Words of the list that are the right ones in a file, and why.
ALLOWED = {
    "plugins/module_utils/host/sparse_files.py": {"hole": "the term of lseek(2), SEEK_HOLE", "holes": "the same"},
}


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
    # Right after a release there are no fragments.
    for path in sorted([ROOT / "changelogs/changelog.yaml", *ROOT.glob("changelogs/fragments/*.yml")]):
        yield Text(str(path.relative_to(ROOT)), "\n".join(leaves(yaml.safe_load(path.read_text(encoding="utf-8")))))


TEXTS = list(texts())


def prose_of_code(source: str) -> Iterator[tuple[int, str]]:
    """The line and the text of each docstring and string, of each run of comments, and of the words of each name.

    Parts of an f-string are separate texts. Strings that only name something (keys, options, paths) are checked too.
    """
    names: dict[str, int] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, inspect.cleandoc(node.value)
    run: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            names.setdefault(token.string, token.start[0])
        if token.type != tokenize.COMMENT:
            continue
        if run and token.start[0] != last + 1:
            yield first, " ".join(run)
            run = []
        if not run:
            first = token.start[0]
        last = token.start[0]
        run.append(token.string.lstrip("#: "))
    if run:
        yield first, " ".join(run)
    for name, line in names.items():
        if name not in FOREIGN:
            yield line, name.replace("_", " ")


def code_files() -> list[str]:
    """The files of `CODE`, relative to the repository."""
    paths: set[pathlib.Path] = set()
    for name in CODE:
        path = ROOT / name
        paths |= {path} if path.is_file() else set(path.rglob("*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def found_in_code(place: str, source: str) -> list[str]:
    """The words of the list in a file's docstrings, comments and strings, each with its line and its replacement."""
    allowed = ALLOWED.get(place, {})
    return [
        f"{place}:{line}: {hit}"
        for line, text in sorted(prose_of_code(source))
        for hit in found_in(text)
        if hit.split("'")[1].lower() not in allowed
    ]


def test_texts_of_every_kind_are_read() -> None:
    kinds = {place: len(content) for place, content in TEXTS}
    assert len(kinds) > 80
    for place in ("README.md", "docs/qemu.md", "plugins/modules/kata_sandbox.py", "changelogs/changelog.yaml"):
        assert any(kind.startswith(place) and size > 100 for kind, size in kinds.items()), place
    assert kinds["plugins/doc_fragments/sandbox_options.py"] > 10_000


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.place)
def test_no_banned_words(text: Text) -> None:
    assert found_in(text.content) == []


def test_code_of_every_directory_is_read() -> None:
    files = code_files()
    assert len(files) > 100
    for name in CODE:
        assert any(place == name or place.startswith(f"{name}/") for place in files), name


@pytest.mark.parametrize("place", code_files())
def test_no_banned_words_in_code(place: str) -> None:
    assert found_in_code(place, (ROOT / place).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("place", ALLOWED)
def test_what_is_allowed_is_needed(place: str) -> None:
    source = (ROOT / place).read_text(encoding="utf-8")
    found = {hit.split("'")[1].lower() for _line, text in prose_of_code(source) for hit in found_in(text)}
    assert found >= set(ALLOWED[place])


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('"""The wish."""\n', 1),
        ("# What was\n# told, and\n#: what it\n#: takes.\nx = 1\n", 2),
        ("wish_list = told(wholesome)\n", 2),
        ('raise ValueError(f"{name} was told: {value}")\n', 1),
        ('"""`told` is a name."""\n', 0),
    ],
)
def test_what_is_found_in_code(source: str, count: int) -> None:
    assert len(found_in_code("x.py", source)) == count


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
