/*
 * Copyright (c) 2026 The kata.hypervisor authors
 * GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

// Tables of many options get a field that filters them: by name and alias, or by all text if no name has the words.
// A suboption that is shown is shown below its option.
const MANY = 12;

function addFilter(table) {
  const rows = [...table.tBodies[0].rows].map((row) => ({
    row,
    path: (row.querySelector(".ansibleOptionAnchor")?.id ?? "") + "/",
    name: row.cells[0].textContent.toLowerCase(),
    text: row.textContent.toLowerCase(),
  }));
  if (rows.length < MANY) return;

  const field = document.createElement("input");
  field.type = "search";
  field.className = "options-filter";
  field.placeholder = `Find one of ${rows.length} options, by name or text`;
  field.setAttribute("aria-label", field.placeholder);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    const having = (where) => rows.filter((row) => words.every((word) => row[where].includes(word)));
    const found = having("name").length ? having("name") : having("text");
    for (const { row, path } of rows) row.hidden = !found.some((one) => one.path.startsWith(path));
  });
  table.before(field);
}

document.querySelectorAll("table.ansible-option-table").forEach(addFilter);
