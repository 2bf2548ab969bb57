# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An extension of Sphinx: names of modules, plugins and roles on the pages become links, and links to Ansible's own documentation work offline."""

from __future__ import annotations

import re
from typing import Any, Optional

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from tools.docsite.names import kind_of

#: Where Ansible documents what the pages of antsibull-docs refer to.
ANSIBLE = "https://docs.ansible.com/projects/ansible/latest/"
ANSIBLE_PAGES = {
    "action_plugins": "plugins/action.html#action-plugins",
    "common_return_values": "reference_appendices/common_return_values.html#common-return-values",
    "ansible_configuration_settings": "reference_appendices/config.html#ansible-configuration-settings",
}
#: The beginning of a block of YAML.
YAML = re.compile(r"(# .*\n)*(- )?[\w.-]+:( |\n)")
ANSIBLE_PLUGIN = re.compile(r"ansible_collections\.(ansible)\.(builtin)\.(\w+)")


def text_before(literal: nodes.literal) -> str:
    """What a reader has read of the paragraph, or of the table's column, before a name."""
    before = ""
    entry = literal.parent
    while entry is not None and not isinstance(entry, nodes.entry):
        entry = entry.parent
    if entry is not None:
        table = entry.parent.parent.parent
        heads = [row for head in table.findall(nodes.thead) for row in head.findall(nodes.row)]
        before += "".join(row[entry.parent.index(entry)].astext() for row in heads) + " "
    for sibling in literal.parent.children:
        if sibling is literal:
            break
        before += sibling.astext()
    return before


def link_names(app: Sphinx, document: nodes.document) -> None:
    """Link the names of modules, plugins and roles to their pages."""
    for literal in list(document.findall(nodes.literal)):
        name = literal.astext().removeprefix("kata.hypervisor.")
        inside = isinstance(literal.parent, (nodes.reference, addnodes.pending_xref, nodes.title))
        kind = None if inside else kind_of(name, text_before(literal))
        if kind:
            target = f"ansible_collections.kata.hypervisor.{name}_{kind}"
            link = addnodes.pending_xref(
                "", refdomain="std", reftype="ref", reftarget=target, refexplicit=True, refwarn=True
            )
            literal.replace_self(link)
            link += literal


def improve_blocks(app: Sphinx, document: nodes.document) -> None:
    """Highlight the YAML that a page shows, and keep the tables of contents of long pages, those that antsibull-docs writes."""
    for contents in list(document.findall(nodes.topic)):
        if app.env.docname.startswith("collections/"):
            # Without this class, the theme shows an error instead.
            contents["classes"].append("this-will-duplicate-information-and-it-is-still-useful-here")
        else:
            contents.parent.remove(contents)
    for block in document.findall(nodes.literal_block):
        if "language" not in block and YAML.match(block.astext()):
            block["language"] = "yaml"


def link_to_ansible(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.Element
) -> Optional[nodes.reference]:
    """Link to Ansible's own documentation, without a list of its labels, which would have to be downloaded."""
    target = node["reftarget"]
    plugin = ANSIBLE_PLUGIN.fullmatch(target)
    if plugin:
        page: Optional[str] = "collections/{}/{}/{}.html".format(*plugin.groups())
    elif node["reftype"] == "envvar":
        page = f"reference_appendices/config.html#envvar-{target}"
    else:
        page = ANSIBLE_PAGES.get(target)
    return nodes.reference("", "", text, internal=False, refuri=ANSIBLE + page) if page else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what this extension does."""
    app.connect("doctree-read", link_names)
    app.connect("doctree-read", improve_blocks)
    app.connect("missing-reference", link_to_ansible)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
