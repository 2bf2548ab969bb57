#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_asset
short_description: Install a version of a program or file beside other versions, and switch to it
version_added: 1.0.0
description:
  - Installs a file, or files of an archive, as one version of an asset, in a directory for this version. The source must have
    the digest in O(checksum).
  - The link C(current) points to the version in use and is switched atomically. Running sandboxes keep their program. To go back to an older
    version that is still installed, name it in O(version).
  - Every run compares the installed files with their recorded digests, modes and owners. Files that were changed, removed or added are reported as a
    change and repaired from the source.
  - A damaged or incomplete download never replaces a working version. An interrupted download is continued by the next run.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.downloads
  - kata.hypervisor.attributes
attributes:
  action:
    support: full
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
options:
  name:
    description: The asset's name, such as V(firecracker).
    type: str
    required: true
  version:
    description: The version. Required with O(state=present). With O(state=absent), only this version is removed.
    type: str
  root:
    description: The directory of all assets. The files are installed in C(NAME/VERSION) below it.
    type: path
    default: /var/lib/kata-hypervisor/assets
  state:
    description: Whether the version must be installed.
    type: str
    choices: [absent, present]
    default: present
  url:
    description:
      - URL of the source, http or https. V({version}) and V({arch}) are replaced.
      - The URL may have a login, which is never shown. Prefer O(url_username) and O(url_password).
    type: str
  src:
    description: The source as a file on the controller, copied to the host if needed. Used instead of O(url).
    type: path
  remote_src:
    description: Whether O(src) is a file on the host.
    type: bool
    default: false
  checksum:
    description:
      - Digest of the source, C(sha256:DIGEST), C(sha384:DIGEST) or C(sha512:DIGEST). Required with O(url) and O(src), unless O(verify=false).
      - With O(url), this can be the URL of a list of digests, C(sha256:https://example.com/SHA256SUMS). The list must have the file name in O(url). All
        common formats of lists are supported. The list is downloaded with the same login and certificates, and only if something is installed.
    type: str
  verify:
    description: Whether the source must have a checksum. V(false) allows to install without one, with a warning in every run.
    type: bool
    default: true
  files:
    description: The files to install. If empty, the source itself is the file, and it is named as the asset.
    type: list
    elements: dict
    default: []
    suboptions:
      member:
        description:
          - Path in the archive. V({version}) and V({arch}) are replaced. With a slash at the end, everything below this directory is installed.
          - If omitted, the source is not an archive but the file itself.
        type: str
      dest:
        description: Path below the version's directory. The default is the member's name.
        type: str
      mode:
        description: Permissions, as an octal number in quotes. By default everybody can run programs and read files.
        type: str
  sums:
    description:
      - Member of the archive with the digests of other members, in any common format. V({version}) and V({arch}) are replaced.
      - Every installed file must be in this list and have its digest.
    type: str
  decompress:
    description:
      - Whether to decompress the source, one file compressed with gzip, bzip2, xz, lzma, lz4 or zstd. O(checksum) is the digest of
        the compressed file. Archives are always decompressed.
    type: bool
    default: false
  max_size_mb:
    description:
      - Size limit of the expanded archive or file, in MiB. The default is 1 GiB or 250 times the size of the source, whichever is larger, and
        at most 128 GiB. Blocks of zeros that C(tar -S) omits are not counted.
    type: int
  content:
    description:
      - The type that the first of O(files) must have. With another type, such as an error page of a web server, the task fails before it changes anything.
      - V(image) is a raw disk image with a partition table or a file system, V(initrd) a cpio archive, compressed or not, V(kernel) a Linux kernel.
      - V(disk) is such a raw image, or a qcow2 image that needs no other file. One whose header names a backing file or a data file is refused.
    type: str
    choices: [any, disk, image, initrd, kernel]
    default: any
  use:
    description: Whether to switch C(current) to this version.
    type: bool
    default: true
  keep:
    description:
      - How many other versions to keep, those that were installed last. By default all are kept. A version that a process runs, or that the root disk of
        a sandbox is based on, is always kept.
    type: int
  arch:
    description: The value of V({arch}). The default is the host's machine.
    type: str
  download_seconds:
    description:
      - Seconds after which a download is interrupted and the module returns RV(unfinished). The next run continues it.
      - For internal use. The module's action plugin sets it to show progress every 10 seconds.
    type: int
    default: 0
  allow_vulnerable:
    description: Install a version although it has a known vulnerability.
    type: bool
    default: false
seealso:
  - module: kata.hypervisor.kata_package
"""

EXAMPLES = r"""
- name: Install a cloud image with the distribution's list of digests
  kata.hypervisor.kata_asset:
    name: debian-12
    version: "20260101-1"
    root: /var/lib/kata-hypervisor/assets/images
    url: https://example.com/{version}/debian-12-generic-amd64.qcow2
    checksum: sha512:https://example.com/{version}/SHA512SUMS
    files: [{dest: image}]
    content: disk

- name: Install a kernel from a server that needs a login and has a certificate of a private authority
  kata.hypervisor.kata_asset:
    name: kernel
    version: "6.12.1"
    url: https://files.example.com/kernels/vmlinux-{version}
    checksum: sha256:0f2d1e5fcd0b5aa1d4ac4a7ee0d4fdd4df1b0ea7f0b4b9db2c15a0ad2b2e9c41
    url_username: builder
    url_password: "{{ vault_files_password }}"
    ca_path: /etc/ssl/our-authority.pem

- name: Install Firecracker and its jailer
  kata.hypervisor.kata_asset:
    name: firecracker
    version: v1.16.1
    url: https://example.com/firecracker-{version}-{arch}.tgz
    checksum: sha256:0f2d1e5fcd0b5aa1d4ac4a7ee0d4fdd4df1b0ea7f0b4b9db2c15a0ad2b2e9c41
    sums: release-{version}-{arch}/SHA256SUMS
    files:
      - member: release-{version}-{arch}/firecracker-{version}-{arch}
        dest: firecracker
      - member: release-{version}-{arch}/jailer-{version}-{arch}
        dest: jailer
    keep: 2

- name: Switch back to the previous version, which is still installed
  kata.hypervisor.kata_asset:
    name: firecracker
    version: v1.16.0
"""

RETURN = r"""
actions:
  description: The steps that were taken, or would be taken without check mode.
  returned: success
  type: list
  elements: str
  sample: [install firecracker v1.16.1, use firecracker v1.16.1 instead of v1.16.0]
version:
  description: The version of the task.
  returned: with O(state=present)
  type: str
  sample: v1.16.1
current:
  description: The version in use, empty if there is none.
  returned: success
  type: str
  sample: v1.16.1
versions:
  description: The installed versions, the last installed one first.
  returned: success
  type: list
  elements: str
  sample: [v1.16.1, v1.16.0]
directory:
  description: Directory of the version.
  returned: with O(state=present)
  type: str
  sample: /var/lib/kata-hypervisor/assets/firecracker/v1.16.1
current_directory:
  description: The link to the directory of the version in use.
  returned: with O(state=present)
  type: str
  sample: /var/lib/kata-hypervisor/assets/firecracker/current
files:
  description: The files of the version by their paths below its directory, with their digests.
  returned: with O(state=present)
  type: dict
  sample: {firecracker: {mode: 493, sha256: 0f2d1e5fcd0b5aa1d4ac4a7ee0d4fdd4df1b0ea7f0b4b9db2c15a0ad2b2e9c41}}
unfinished:
  description: Progress of a download that took longer than O(download_seconds), in bytes. C(total) is 0 if it is unknown.
  returned: when a download was interrupted
  type: dict
  sample: {received: 125829120, total: 419430400}
needs_source:
  description: Whether the task needs O(url) or O(src), because the version is missing or damaged.
  returned: with O(state=present)
  type: bool
  sample: false
"""

import contextlib
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.vulnerabilities import (
    refuse_vulnerable,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.asset_store import (
    AssetStore,
    Check,
    Wanted,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.downloads import Unfinished
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.sources import Checksum, fetch_from
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.urls import ACCESS_SPEC, Access, Url, shown

FILE_SPEC: dict[str, dict[str, Any]] = {"member": {"type": "str"}, "dest": {"type": "str"}, "mode": {"type": "str"}}


def content_check(content: str) -> Check | None:
    """The check of the first file's content; None if any content is allowed."""
    if content == "any":
        return None
    from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.disk_image import (
        check_disk,
        check_initrd,
        check_kernel,
        check_raw_image,
    )

    checks = {"disk": check_disk, "image": check_raw_image, "initrd": check_initrd, "kernel": check_kernel}
    return checks[content]


def _most(max_size_mb: int | None) -> int:
    """The limit of what may come out of the source, bytes; 0 for the usual one.

    :raises ConfigError: it cannot be one
    """
    if max_size_mb is not None and not 1 <= max_size_mb <= 1 << 30:
        raise ConfigError("must be at least 1 and at most 1073741824", option="max_size_mb", wanted=max_size_mb)
    return (max_size_mb or 0) << 20


def present(options: dict[str, Any], store: AssetStore, check_mode: bool) -> dict[str, Any]:
    """Install a version. Returns the module's result."""
    version, arch = options["version"], options["arch"] or os.uname().machine
    filled = {
        name: (options[name] or "").replace("{version}", version).replace("{arch}", arch)
        for name in ("url", "sums", "checksum")
    }
    listed = options["files"] or ([{"dest": store.name}] if options["url"] or options["src"] else [])
    wanted = [Wanted.parse(file, version, arch) for file in listed]
    access = Access.parse(options)
    if filled["url"]:
        Url.parse(filled["url"])
    checksum = Checksum.parse(filled["checksum"], filled["url"], access) if filled["checksum"] else None
    if (options["url"] or options["src"]) and checksum is None and options["verify"]:
        raise ConfigError(
            "a source needs a checksum", option="checksum", fix="Set its sha256 or sha512, or set verify: false."
        )
    if options["decompress"] and any(file.member for file in wanted):
        raise ConfigError(
            "must be false where files have members: an archive is expanded by itself", option="decompress", wanted=True
        )
    most = _most(options["max_size_mb"])
    if not options["allow_vulnerable"]:
        refuse_vulnerable(store.name, version, any(file.dest == "jailer" for file in wanted))
    fetch = fetch_from(
        filled["url"], options["src"] or "", options["root"], checksum, options["download_seconds"], access
    )
    check = content_check(options["content"])
    actions = store.install(
        version, wanted, fetch, checksum, filled["sums"], options["use"], check_mode, check, options["decompress"], most
    )
    needs_source = any(not action.startswith(("use ", "correct ")) for action in actions)
    if options["keep"] is not None:
        actions += store.prune(options["keep"], version, check_mode)
    return {
        "actions": actions,
        "version": version,
        "directory": store.path(version),
        "current_directory": store.path("current"),
        "files": store.manifest(version).get("files", {}),
        "needs_source": needs_source,
    }


class Module(AnsibleModule):  # type: ignore[misc]
    """Ansible's module, which shows no login of a URL either where it refuses other options before anything of ours runs."""

    def _load_params(self) -> None:
        super()._load_params()
        for name in ("url", "checksum"):
            login = str(self.params.get(name) or "").partition("://")[2].rpartition("@")[0]
            if login:
                self.no_log_values.add(login)


def main() -> None:
    """Bring one asset to the requested state."""
    module = Module(
        argument_spec={
            "name": {"type": "str", "required": True},
            "version": {"type": "str"},
            "root": {"type": "path", "default": "/var/lib/kata-hypervisor/assets"},
            "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
            "url": {"type": "str"},
            "src": {"type": "path"},
            "remote_src": {"type": "bool", "default": False},
            "checksum": {"type": "str"},
            "verify": {"type": "bool", "default": True},
            "files": {"type": "list", "elements": "dict", "default": [], "options": FILE_SPEC},
            "sums": {"type": "str"},
            "decompress": {"type": "bool", "default": False},
            "max_size_mb": {"type": "int"},
            **ACCESS_SPEC,
            "content": {"type": "str", "choices": ["any", "disk", "image", "initrd", "kernel"], "default": "any"},
            "use": {"type": "bool", "default": True},
            "keep": {"type": "int"},
            "arch": {"type": "str"},
            "download_seconds": {"type": "int", "default": 0},
            "allow_vulnerable": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ["version"])],
        supports_check_mode=True,
    )
    options = dict(module.params)
    # The result contains the module's parameters, which must not show a login in a URL.
    for name in ("url", "checksum"):
        if options[name]:
            module.params[name] = shown(options[name])
    if not options["verify"] and not options["checksum"]:
        module.warn(f"{options['name']} is not verified: verify is false.")
    try:
        with fail_on_error(module):
            store = AssetStore(options["root"], options["name"])
            before = {"current": store.current(), "versions": store.versions()}
            only_looks = module.check_mode or (options["state"] == "absent" and not os.path.isdir(store.directory))
            with contextlib.nullcontext() if only_looks else store.lock():
                if options["state"] == "present":
                    result = present(options, store, module.check_mode)
                else:
                    result = {"actions": store.remove(options["version"] or "", module.check_mode)}
    except Unfinished as download:
        module.exit_json(changed=True, unfinished={"received": download.received, "total": download.total})
    after = {"current": store.current(), "versions": store.versions()}
    if module.check_mode:
        after = {"actions": result["actions"]} if result["actions"] else before
    module.exit_json(
        changed=bool(result["actions"]),
        diff={"before": before, "after": after},
        current=store.current(),
        versions=store.versions(),
        **result,
    )


if __name__ == "__main__":
    main()
