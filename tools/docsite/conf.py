# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of Sphinx."""

from __future__ import annotations

import pathlib

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))

project = f"{GALAXY['namespace']}.{GALAXY['name']}"
author = GALAXY["authors"][0]
project_copyright = author
release = version = GALAXY["version"]

extensions = ["myst_parser", "sphinx_antsibull_ext", "tools.docsite.links"]
myst_heading_anchors = 6
antsibull_ext_color_scheme = "none"  # static/site.css has colors.
highlight_language = "none"
pygments_style = "ansible"

html_theme = "furo"
html_title = f"{project} {release}"
html_favicon = "static/icon.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = [("options.js", {"defer": "defer"})]
html_copy_source = False
html_show_sphinx = False
html_use_index = False
