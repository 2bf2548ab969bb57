# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the documentation site in build/site. Usage: python -m tools.docsite

The pages of the repository are copied to build/site-source at the same paths, so that their links to each other work. The README becomes the
first page, and gets the navigation. antsibull-docs adds the pages of modules, plugins and roles. Sphinx checks all links and makes HTML of it.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

from tools.docsite.pages import INDEX, ROOT, Link, all_pages, navigation, subpages

BIN = pathlib.Path(sys.executable).parent
SOURCE = ROOT / "build/site-source"
SITE = ROOT / "build/site"
#: What the groups of the navigation have in addition to the pages that docs/README.md lists.
ALSO = {
    "Start": [Link("All pages", INDEX)],
    "Reference": [
        Link("Modules, plugins and roles", "collections/kata/hypervisor/index.rst"),
        Link("Environment variables", "collections/environment_variables.rst"),
    ],
}


def toctree(links: list[Link], caption: str = "") -> str:
    """A part of the navigation, in the Markdown of MyST."""
    option = f":caption: {caption}\n" if caption else ""
    return "\n```{toctree}\n:hidden:\n" + option + "\n" + "\n".join(map(entry, links)) + "\n```\n"


def entry(link: Link) -> str:
    """A link as toctree wants it. The title is that of the page, unless the link has a text other than the file's name."""
    path = "/" + os.path.splitext(link.page)[0]
    return path if link.text.endswith((".md", "/")) else f"{link.text} <{path}>"


def first_page() -> str:
    """The README with the navigation of the site."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text + "".join(toctree([*ALSO.get(group, []), *links], group) for group, links in navigation().items())


def write_pages() -> None:
    """Copy the pages, and what they show, to where Sphinx reads them."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for directory in ("docs/images", "docs/example-inventory"):
        shutil.copytree(ROOT / directory, SOURCE / directory)
    shutil.copy(ROOT / "LICENSE", SOURCE)
    (SOURCE / "index.md").write_text(first_page(), encoding="utf-8")
    for page in all_pages():
        path, directory = SOURCE / page, os.path.dirname(page)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / page).read_text(encoding="utf-8")
        home = os.path.relpath(".", directory or ".")
        text = text.replace(f"]({os.path.normpath(f'{home}/README.md')}", f"]({home}/index.md")
        below = subpages(page)
        path.write_text(text + (toctree(below) if below else ""), encoding="utf-8")


def write_plugin_pages() -> None:
    """Let antsibull-docs write the pages of modules, plugins and roles."""
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
    }
    arguments = ["collection", "--use-current", "--fail-on-error", "--no-indexes", "--dest-dir", str(SOURCE)]
    subprocess.run([BIN / "antsibull-docs", *arguments, "kata.hypervisor"], env=environment, check=True)
    overview = SOURCE / "collections/kata/hypervisor/index.rst"
    # It ends with a link to a list of collections, which this site does not have.
    overview.write_text(overview.read_text(encoding="utf-8").partition(".. seealso::")[0], encoding="utf-8")


def main() -> None:
    """Build the site."""
    write_pages()
    write_plugin_pages()
    # From scratch, so that each warning is seen each time. The directory of this checkout is where the extension is found.
    arguments = ["-E", "-a", "-q", "-n", "-W", "--keep-going", "-j", "auto", "-d", str(ROOT / "build/site-cache")]
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", *arguments, "-c", str(ROOT / "tools/docsite"), str(SOURCE), str(SITE)]
    subprocess.run(command, cwd=ROOT, check=True)
    print(f"The site is in {SITE.relative_to(ROOT)}: open index.html")


if __name__ == "__main__":
    main()
