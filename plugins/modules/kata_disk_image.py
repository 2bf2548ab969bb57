#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_disk_image
short_description: Convert a disk image, and make it larger
version_added: 1.0.0
description:
  - Makes an image of a format and a size out of another image of the host, with C(qemu-img). The source stays as it is.
  - The source's format is named and never guessed from what is in the file. An image that needs other files, such as a backing file, is refused.
  - The image is made anew when the source or an option is another, or when it is no longer what was made.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.built_files
  - kata.hypervisor.attributes
options:
  src:
    description: The image on the host that it is made from. Needed with O(state=present).
    type: path
  src_format:
    description: The format of O(src). Needed with O(state=present).
    type: str
    choices: [qcow2, raw, vdi, vhdx, vmdk, vpc]
  format:
    description: The format of the image. A raw one must have a partition table or a file system that is known.
    type: str
    choices: [qcow2, raw]
    default: raw
  size_mb:
    description:
      - Size of the disk that the guest sees, in MiB; that of O(src) when not given. An image is never made smaller.
      - The file system in it stays as large as it is until the guest makes it grow.
    type: int
  dax:
    description:
      - Put before a raw image what a guest needs to map it instead of reading it, as an NVDIMM
        (O(kata.hypervisor.kata_sandbox#module:image_driver=nvdimm)). All guests then use the same pages of the host.
      - Its file system must be made for that; ext4 with blocks of 4 KiB is.
    type: bool
    default: false
seealso:
  - module: kata.hypervisor.kata_asset
  - module: kata.hypervisor.kata_root_image
"""

EXAMPLES = r"""
- name: Have a distribution's cloud image
  kata.hypervisor.kata_asset:
    name: debian-cloud
    version: "20260101-1"
    url: https://example.com/debian-12-genericcloud-amd64-{version}.qcow2
    checksum: sha256:0f2d1e5fcd0b5aa1d4ac4a7ee0d4fdd4df1b0ea7f0b4b9db2c15a0ad2b2e9c41
  register: cloud

- name: Make a raw image of 4 GiB out of it
  kata.hypervisor.kata_disk_image:
    src: "{{ cloud.directory }}/debian-cloud"
    src_format: qcow2
    path: /var/lib/kata-hypervisor/assets/images/debian.img
    size_mb: 4096
"""

RETURN = r"""
path:
  description: Where the image is.
  returned: success
  type: str
  sample: /var/lib/kata-hypervisor/assets/images/debian.img
sha256:
  description: Its digest. Empty in check mode where it would be made.
  returned: with O(state=present)
  type: str
  sample: 3f0a377ba0a4a460ecb616f6507ce0d8cfa3e704025d4fda3ed0c5ca05468728
size:
  description: How large the file is, in bytes.
  returned: with O(state=present)
  type: int
  sample: 4294967296
actions:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: ["make /var/lib/kata-hypervisor/assets/images/debian.img"]
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError, errors_told_by
from ansible_collections.kata.hypervisor.plugins.module_utils.host.digests import file_digest
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.built_files import IMAGE_SPEC, BuiltFile
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.dax import with_header
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.disk_image import (
    FORMATS,
    SOURCE_FORMATS,
    convert,
    private_source,
    refuse_other_files,
)


def converge(options: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring the image to what the task asks for; the module's result."""
    image = BuiltFile(options["path"])
    if options["state"] == "absent":
        return image.remove(check_mode)
    source, source_format, size_mb = options["src"], options["src_format"], options["size_mb"] or 0
    if not os.path.isfile(source):
        raise AssetError("there is no such file on the host", option="src", wanted=source)
    refuse_other_files(source, source_format)
    recipe = {
        "source": file_digest(source),
        "src_format": source_format,
        "format": options["format"],
        "size_mb": size_mb,
    }
    if options["dax"]:
        if options["format"] != "raw":
            raise ConfigError("only a raw image can be mapped", option="dax", wanted=options["format"])
        recipe["dax"] = True

    def make(work: str) -> tuple[str, dict[str, Any]]:
        made = convert(private_source(source, recipe["source"], work), source_format, options["format"], size_mb, work)
        return with_header(made, work) if options["dax"] else made, {}

    result = image.converge(recipe, make, check_mode)
    del result["about"]
    return result


def main() -> None:
    """Have the image."""
    module = AnsibleModule(
        argument_spec={
            **IMAGE_SPEC,
            "src": {"type": "path"},
            "src_format": {"type": "str", "choices": list(SOURCE_FORMATS)},
            "format": {"type": "str", "choices": list(FORMATS), "default": "raw"},
            "size_mb": {"type": "int"},
            "dax": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ["src", "src_format"])],
        supports_check_mode=True,
    )
    with errors_told_by(module):
        result = converge(module.params, module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
