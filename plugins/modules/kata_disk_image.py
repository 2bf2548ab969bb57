#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_disk_image
short_description: Convert and enlarge a disk image
version_added: 1.0.0
description:
  - Creates a disk image with another format or size from an image on the host, with C(qemu-img). The source is not changed.
  - The source's format is never guessed from the file's content. An image that needs other files, such as a backing file, is refused.
  - The image is created again if the source, an option or the image itself has changed.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.built_files
  - kata.hypervisor.attributes
options:
  src:
    description: The source, an image on the host. Required with O(state=present).
    type: path
  src_format:
    description: The format of O(src). Required with O(state=present).
    type: str
    choices: [qcow2, raw, vdi, vhdx, vmdk, vpc]
  format:
    description: The format of the image. A raw image must have a known partition table or file system.
    type: str
    choices: [qcow2, raw]
    default: raw
  size_mb:
    description:
      - Size of the disk that the guest sees, in MiB. The default is the size of O(src). An image is never made smaller.
      - The file system in the image keeps its size until the guest enlarges it.
    type: int
  dax:
    description:
      - Add a header to a raw image, so that guests can map it as an NVDIMM instead of reading it
        (O(kata.hypervisor.kata_sandbox#module:image_driver=nvdimm)). All guests then share the same pages of the host.
      - The image's file system must support this, for example ext4 with blocks of 4 KiB.
    type: bool
    default: false
seealso:
  - module: kata.hypervisor.kata_asset
  - module: kata.hypervisor.kata_root_image
"""

EXAMPLES = r"""
- name: Download a cloud image
  kata.hypervisor.kata_asset:
    name: debian-cloud
    version: "20260101-1"
    url: https://example.com/debian-12-genericcloud-amd64-{version}.qcow2
    checksum: sha256:0f2d1e5fcd0b5aa1d4ac4a7ee0d4fdd4df1b0ea7f0b4b9db2c15a0ad2b2e9c41
  register: cloud

- name: Convert the image to a raw image of 4 GiB
  kata.hypervisor.kata_disk_image:
    src: "{{ cloud.directory }}/debian-cloud"
    src_format: qcow2
    path: /var/lib/kata-hypervisor/assets/images/debian.img
    size_mb: 4096
"""

RETURN = r"""
path:
  description: Path of the image.
  returned: success
  type: str
  sample: /var/lib/kata-hypervisor/assets/images/debian.img
sha256:
  description: SHA-256 digest of the image. Empty in check mode if it would be created.
  returned: with O(state=present)
  type: str
  sample: 3f0a377ba0a4a460ecb616f6507ce0d8cfa3e704025d4fda3ed0c5ca05468728
size:
  description: Size of the file in bytes.
  returned: with O(state=present)
  type: int
  sample: 4294967296
actions:
  description: The steps that were taken, or would be taken without check mode.
  returned: success
  type: list
  elements: str
  sample: ["make /var/lib/kata-hypervisor/assets/images/debian.img"]
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError, fail_on_error
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
    """Bring the image to the requested state. Returns the module's result."""
    image = BuiltFile(options["path"])
    if options["state"] == "absent":
        return image.remove(check_mode)
    source, source_format, size_mb = options["src"], options["src_format"], options["size_mb"] or 0
    if not os.path.isfile(source):
        raise AssetError("the file does not exist on the host", option="src", wanted=source)
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
    """Create or remove the image."""
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
    with fail_on_error(module):
        result = converge(module.params, module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
