# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make docs` generates is current, and the table of layers has every package."""

from __future__ import annotations

import pathlib
import runpy
import subprocess
import sys
import xml.etree.ElementTree

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
PICTURES = sorted((ROOT / "docs/images").glob("*.svg"))
LAYERS = runpy.run_path(str(ROOT / "tools/layers.py"))["LAYERS"]


@pytest.mark.parametrize("tool", ["capabilities", "diagrams", "playbooks"])
def test_generated_files_are_current(tool: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"tools.{tool}", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_package_has_a_layer() -> None:
    found = (ROOT / "plugins/module_utils").iterdir()
    packages = [path.stem for path in found if (path / "__init__.py").exists() or path.match("[!_]*.py")]
    assert sorted(LAYERS) == sorted(packages)


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_an_svg_that_a_page_shows(path: pathlib.Path) -> None:
    root = xml.etree.ElementTree.fromstring(path.read_text(encoding="utf-8"))
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    texts = list(root.iter("{http://www.w3.org/2000/svg}text"))
    assert len(texts) > 10
    assert [text.text for text in texts if not (0 < float(text.attrib["x"]) < width)] == []
    assert [text.text for text in texts if not (0 < float(text.attrib["y"]) < height)] == []
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert any(f"images/{path.name})" in page.read_text(encoding="utf-8") for page in pages)
