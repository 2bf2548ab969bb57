# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host gives one sandbox: its image, root disk, volumes, lease and seed. Creates them, removes them, and returns the VM's devices.

`resources/` has a module for each kind. Here they meet the engine: `resource_planning.py` adds steps to a plan, and `provide` and `release` run them.
A task without such options does not import this module.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any, Mapping

from ..errors import ConfigError
from ..host.network import generated_mac, tap_name
from ..options.config import ASSET_NAME, HypervisorConfig
from ..options.resource_options import IDENTITY, check_together, host_name, managed_network
from ..records.layout import SandboxLayout, join_path
from ..untrusted.answers import AnswerError
from .steps import Step

if TYPE_CHECKING:
    from ..resources.networks.definition import Network
    from ..resources.networks.lease import Lease, LeaseRequest
    from ..resources.root_disk import RootDisk
    from ..resources.seed import Seed
    from ..resources.volumes import Volume, VolumeRequest

#: The id of the network interface, and the driver's name for the root disk.
INTERFACE = "network"
ROOT = "root"

#: Hypervisors whose root disk is a qcow2 overlay; the others read raw files.
OVERLAYS = ("qemu",)

#: The port of ssh servers.
SSH = 22


class SandboxResources:
    """The resources of one sandbox while a task works on it.

    :param hypervisor: the one that the VM will have
    """

    def __init__(self, layout: SandboxLayout, hypervisor: str) -> None:
        self.layout = layout
        self.hypervisor = hypervisor
        #: What a user should know although the task succeeds.
        self.warnings: list[str] = []
        #: The image that a name led to, for the record.
        self.image: dict[str, str] = {}
        #: The lease that the sandbox has, or will have.
        self.lease: Lease | None = None
        self._networks: dict[str, Network] = {}
        #: The plan's `after`, in which the address is shown.
        self.shown: dict[str, Any] = {}

    # --- what follows from the options -------------------------------------------------------------------------------

    def devices(self, options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The devices that follow from the options, each with the option as its `source`.

        :raises ConfigError: the options contradict each other, or the host has no such network
        """
        check_together(options)
        found = []
        if options.get("volumes"):
            from ..resources.volumes import device_of

            found += [
                {**device_of(self.volume(request), request.read_only, self.hypervisor), "source": "volumes"}
                for request in self.volumes(options)
            ]
        if options.get("network"):
            found.append({**self._interface(options), "source": "network"})
        if wants_seed(options):
            from ..resources.seed import device_of_seed, seed_path

            found.append({**device_of_seed(seed_path(self.layout)), "source": "seed"})
        return found

    def _interface(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The device of the option `network`."""
        from ..options.device_options import check_devices

        device: dict[str, Any] = {"id": INTERFACE, "type": "net", "mac": self._mac}
        if options["network"] == "user":
            checked = check_devices([{**device, "kind": "user"}])[0]
            return {**checked, "forwards": list(options.get("ports") or []), "offline": options.get("egress") == "none"}
        return check_devices([{**device, "kind": "tap", "bridge": self.network(options["network"]).bridge}])[0]

    @property
    def disk_format(self) -> str:
        """The format of root disks that the hypervisor reads."""
        return "qcow2" if self.hypervisor in OVERLAYS else "raw"

    @property
    def _mac(self) -> str:
        return generated_mac(f"{self.layout.host_name}/{INTERFACE}")

    def network(self, name: str) -> Network:
        """A network of the host, opened once.

        :raises ConfigError: the host has no such network
        """
        if name not in self._networks:
            from ..resources.networks.leases import open_network

            self._networks[name] = open_network(name, self.layout.state_root)
        return self._networks[name]

    @staticmethod
    def volumes(options: Mapping[str, Any]) -> list[VolumeRequest]:
        """What the sandbox requests of volumes."""
        if not options.get("volumes"):
            return []
        from ..resources.volumes import VolumeRequest

        return [VolumeRequest(**volume) for volume in options["volumes"]]

    def volume(self, request: VolumeRequest) -> Volume:
        """The volume, as its device needs it: by its name and path, so that one that cannot be read hides no facts and can be detached."""
        from ..resources.volumes import new_volume

        return new_volume(self.layout.state_root, request)

    # --- the VM's configuration ----------------------------------------------------------------------------------------

    def configure(self, config: HypervisorConfig, recorded: Mapping[str, Any], new: bool) -> None:
        """Set the paths of the image and of the root disk in a VM's configuration.

        :param recorded: the record's `resources`
        :param new: the VM is about to start; without it, the configuration is that of a VM that exists
        :raises AssetError: there is no such image
        """
        disk = self.recorded_disk(recorded)
        if disk is not None and new and disk.format != self.disk_format:
            disk = None  # The disk of the old VM, of another hypervisor, is about to be replaced.
        if disk is not None:
            config.image_path, config.image_format = disk.base, disk.base_format
            config.root_disk_path, config.root_disk_format = disk.path, disk.format
        elif ASSET_NAME.fullmatch(config.image_path):
            if recorded.get("image") and not new:
                config.image_path, config.image_format = recorded["image"], recorded.get("image_format", "raw")
            else:
                config.image_path, image_format = self._installed(config.image_path)
                config.image_format = config.image_format or image_format
                self.image = {"image": config.image_path, "image_format": config.image_format}

    def _installed(self, name: str) -> tuple[str, str]:
        from ..provisioning.installed_images import installed_image

        found = installed_image(name, self.layout.state_root, "image_path")
        return found.path, found.format

    def recorded_disk(self, recorded: Mapping[str, Any]) -> RootDisk | None:
        """The root disk in a record.

        :raises AnswerError: it is not a root disk, or not this sandbox's own
        """
        if not recorded.get("root_disk"):
            return None
        from ..resources.root_disk import RootDisk, disk_path

        disk = RootDisk.from_record(recorded["root_disk"])
        if disk.path != disk_path(self.layout, disk.format):
            raise AnswerError("the record of the root disk must name this sandbox's own disk")
        return disk

    # --- what its options come to --------------------------------------------------------------------------------------

    def base(self, options: Mapping[str, Any]) -> tuple[str, str]:
        """The image that a root disk is made from, and its format."""
        image = str(options["image_path"])
        if ASSET_NAME.fullmatch(image):
            path, found = self._installed(image)
            return path, str(options.get("image_format") or found)
        return os.path.realpath(image), str(options.get("image_format") or "raw")

    def lease_request(self, options: Mapping[str, Any]) -> LeaseRequest:
        """What the sandbox requests of its network."""
        from ..options.network_options import parse_egress, parse_ports
        from ..resources.networks.lease import LeaseRequest

        return LeaseRequest(
            sandbox=self.layout.host_name,
            id=self.layout.id,
            tap=tap_name(self.layout.host_name, INTERFACE),
            mac=self._mac,
            hostname=host_name(options, self.layout.id).partition(".")[0].lower(),
            address=options.get("address") or "",
            address6=options.get("address6") or "",
            ports=parse_ports(options.get("ports") or []),
            egress=parse_egress(options.get("egress") or "open"),
            isolated=bool(options.get("isolated")),
        )

    def seed(self, options: Mapping[str, Any]) -> Seed:
        """The seed that follows from the options and the lease."""
        from ..guest.identity import INSTALL_AGENT
        from ..resources.seed import Seed

        own = str(options.get("network_config") or "")
        return Seed(
            self.layout.id,
            hostname=host_name(options, self.layout.id),
            ssh_keys=tuple(options.get("ssh_keys") or ()),
            user_data=str(options.get("user_data") or ""),
            vendor_data=INSTALL_AGENT if options.get("guest_agent") else str(options.get("vendor_data") or ""),
            network_config=own,
            network=self._network_config() if options.get("network") and not own else "",
        )

    def _network_config(self) -> str:
        """How the guest configures its interface: with the address of its lease, or by DHCP in a network of the VMM."""
        from ..resources.seed import network_config_of

        lease = self.lease
        if lease is None:
            return network_config_of(self._mac)
        addresses = [f"{lease.ipv4}/{lease.prefix}"] + ([f"{lease.ipv6}/{lease.prefix6}"] if lease.ipv6 else [])
        gateways = [gateway for gateway in (lease.gateway, lease.gateway6) if gateway]
        return network_config_of(lease.mac, addresses, gateways, gateways, [lease.domain])

    def own_claims(self) -> dict[str, bool]:
        """The volumes that the sandbox has, and whether each stays when the sandbox gives it up."""
        if not os.path.isdir(join_path(self.layout.state_root, "volumes")):
            return {}
        from ..resources.volumes import claims_of

        return {name: claim["keep"] for name, claim in claims_of(self.layout).items()}

    # --- the steps -----------------------------------------------------------------------------------------------------

    def provide(self, step: Step, options: Mapping[str, Any], recorded: dict[str, Any]) -> None:
        """Run a step that creates or changes a resource. Idempotent.

        :param options: all options that the sandbox will have
        :param recorded: the record's `resources`, which is updated
        :raises HypervisorError: it cannot be provided
        """
        kind = step.arguments["resource"]
        if kind == "volume":
            self._provide_volume(step.arguments["request"])
        elif kind == "root_disk":
            recorded["root_disk"] = self._provide_disk(step, recorded).as_record()
        elif kind == "lease":
            from ..resources.networks.leases import put_leases

            (self.lease,) = put_leases(self.network(options["network"]), [self.lease_request(options)])
            recorded["network"] = facts = self.lease.facts()
            # Another task may have got the planned address first.
            self.shown.update({name: facts[name] for name in ("address", "address6") if name in self.shown})
        else:
            from ..resources import seed

            seed.write_seed(self.layout, self.seed(options))
            recorded["seed"] = True

    def _provide_volume(self, request: VolumeRequest) -> None:
        from ..resources import volumes

        there = volumes.create_volume(self.layout.state_root, request, self.layout.id)
        volumes.claim_volume(self.layout, request.name, request.read_only, request.keep)
        if request.size_mb > there.size_mb:
            volumes.grow_volume(self.layout.state_root, request.name, request.size_mb)

    def _provide_disk(self, step: Step, recorded: Mapping[str, Any]) -> RootDisk:
        from ..resources import root_disk

        arguments = step.arguments
        disk = self.recorded_disk(recorded)
        if "base" not in arguments:
            if disk is None:
                raise ConfigError("the sandbox has no root disk", option="root_disk_mb")
            return root_disk.grow_root_disk(disk, arguments["size"])
        if disk is None:
            root_disk.remove_root_disk(self.layout)
        return root_disk.create_root_disk(
            self.layout, arguments["base"], arguments["base_format"], arguments["format"], arguments["size"]
        )

    def resized(self, disk: str, size_mb: int, recorded: dict[str, Any]) -> None:
        """Record that a running VM has grown one of its disks."""
        known = self.recorded_disk(recorded)
        if disk == ROOT and known is not None:
            recorded["root_disk"] = dataclasses.replace(known, size_mb=size_mb).as_record()

    def release(self, step: Step, recorded: dict[str, Any]) -> None:
        """Run a step that removes a resource. Idempotent."""
        kind = step.arguments["resource"]
        if kind == "volume":
            self._release_volume(step.arguments["name"], step.arguments["remove"])
        elif kind == "lease":
            from ..resources.networks.leases import drop_leases

            drop_leases(step.arguments["network"], self.layout.state_root, [self.layout.host_name])
            if recorded.get("network", {}).get("network") == step.arguments["network"]:
                del recorded["network"]
        elif kind == "root_disk":
            self._remove_disk(recorded)
        else:
            self._remove_seed(recorded)

    def _release_volume(self, name: str, remove: bool) -> None:
        """Give a volume up, and remove it unless another sandbox has it too."""
        from ..resources.volumes import release_volume, remove_volume, users_of_volume

        if remove and set(users_of_volume(self.layout.state_root, name)) <= {self.layout.id}:
            remove_volume(self.layout.state_root, name, owner=self.layout.id)
        else:
            release_volume(self.layout, name)

    def tidy(self) -> None:
        """Remove what killed tasks left of volumes."""
        if os.path.isdir(join_path(self.layout.state_root, "volumes")):
            from ..resources import volumes

            volumes.tidy(self.layout.state_root)

    def _remove_disk(self, recorded: dict[str, Any]) -> None:
        from ..resources.root_disk import remove_root_disk

        remove_root_disk(self.layout)
        recorded.pop("root_disk", None)

    def _remove_seed(self, recorded: dict[str, Any]) -> None:
        from ..resources.seed import remove_seed

        remove_seed(self.layout)
        recorded.pop("seed", None)

    def discard_disk(self, recorded: dict[str, Any]) -> None:
        """Remove the root disk of a VM that is about to be created again."""
        if recorded.get("root_disk"):
            self._remove_disk(recorded)

    def remove_all(self, options: Mapping[str, Any], recorded: dict[str, Any]) -> None:
        """Remove everything of a sandbox that goes away: leases also in networks that the record does not name, since a task may have been killed."""
        root, sandbox = self.layout.state_root, self.layout.host_name
        if os.path.isdir(join_path(root, "networks")):
            from ..resources.networks.leases import drop_leases, networks_of

            for network in {
                *networks_of(root, sandbox),
                managed_network(options),
                recorded.get("network", {}).get("network"),
            }:
                if network:
                    drop_leases(network, root, [sandbox])
        for name, keep in self.own_claims().items():
            self._release_volume(name, not keep)
        self._remove_disk(recorded)
        self._remove_seed(recorded)

    # --- facts ---------------------------------------------------------------------------------------------------------

    def facts(self, options: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a sandbox's facts that is about its resources."""
        found: dict[str, Any] = {}
        disk = self.recorded_disk(recorded)
        if disk is not None:
            found["root_disk"] = {"path": disk.path, "size_mb": disk.size_mb, "format": disk.format, "base": disk.base}
        if options.get("network") == "user":
            found["network"] = {"network": "user", "mac": self._mac, "ports": list(options.get("ports") or [])}
        elif recorded.get("network"):
            found["network"] = dict(recorded["network"])
        if options.get("volumes"):
            found["volumes"] = [
                {"name": request.name, "path": self.volume(request).path} for request in self.volumes(options)
            ]
        return found

    def ways_in(
        self, options: Mapping[str, Any], recorded: Mapping[str, Any]
    ) -> tuple[list[str], list[tuple[str, int]]]:
        """The addresses that the host gives the guest, and the addresses and ports of the host that lead to its ssh server (port 22)."""
        from ..options.network_options import parse_ports

        facts = self.lease.facts() if self.lease is not None else recorded.get("network") or {}
        addresses = [facts[name] for name in ("address", "address6") if facts.get(name)]
        ports = parse_ports(options.get("ports") or [])
        local = [(port.of_vmm.address, port.host_port) for port in ports if port.guest_port == SSH]
        return addresses, local


def resource_files(layout: SandboxLayout) -> list[str]:
    """The files of a sandbox's root disk and of its seed that are there."""
    from ..provisioning.image_users import DISK_RECORD
    from ..resources import root_disk, seed

    paths = [os.path.join(layout.state_dir, DISK_RECORD)]
    paths += [root_disk.disk_path(layout, kind) for kind in root_disk.FORMATS]
    return [path for path in (*paths, seed.seed_path(layout)) if os.path.lexists(path)]


def wants_seed(options: Mapping[str, Any]) -> bool:
    """Whether the guest gets a seed: if an option of its identity is set, or if it has a network."""
    return any(options.get(name) for name in (*IDENTITY, "network"))
