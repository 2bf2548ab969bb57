# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module `kata_host` run whole in this process, on a host without devices whose kernel has some modules."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Callable

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.host.programs import Output
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import host_facts
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import prepared_host
from ansible_collections.kata.hypervisor.plugins.modules import kata_host
from tests.support.module_arguments import module_arguments

Predict = Callable[..., "dict[str, Any]"]


@pytest.fixture
def predict(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Predict:
    """Run the module in check mode, on a kernel that can load these modules."""

    def predict(*loadable: str, **options: Any) -> dict[str, Any]:
        def modprobe(argv: list[str], seconds: float) -> Output:
            return Output(0, b"insmod /lib/modules/x.ko", "") if argv[-1] in loadable else Output(1, b"", "")

        monkeypatch.setattr(prepared_host, "output_of", modprobe)
        monkeypatch.setattr(prepared_host, "LOADED_MODULES", str(tmp_path / "modules"))
        monkeypatch.setattr(host_facts, "DEVICES", {name: str(tmp_path / name) for name in host_facts.DEVICES})
        monkeypatch.setattr(host_facts, "accelerator_facts", lambda *arguments: {"accelerator": "tcg"})
        directories = {"state_dir": str(tmp_path / "state"), "run_dir": str(tmp_path / "run")}
        arguments = {**directories, **options, "_ansible_check_mode": True}
        with module_arguments(arguments), pytest.raises(SystemExit):
            kata_host.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return predict


@pytest.mark.parametrize(
    ("device", "module"),
    [
        ("tun", "tun"),
        ("vhost_net", "vhost_net"),
        ("vhost_vsock", "vhost_vsock"),
        ("vfio", "vfio-pci"),
        ("kvm", "kvm_amd"),
    ],
)
def test_a_device_whose_module_will_be_loaded_is_not_missing_in_check_mode(
    predict: Predict, device: str, module: str
) -> None:
    result = predict(module, modules=[module], required_devices=[device])
    assert "failed" not in result, result
    assert f"load the kernel module {module}" in result["actions"]
    assert device not in result["missing_devices"]
    assert not result["host"]["devices"][device]["exists"]


@pytest.mark.parametrize(
    ("loadable", "modules", "device"),
    [
        # Not in the list, not in the kernel, and a module that does not create this device.
        (["tun"], [], "tun"),
        ([], ["tun"], "tun"),
        (["kvm"], ["kvm"], "kvm"),
    ],
)
def test_a_device_that_the_real_run_would_miss_is_missing_in_check_mode(
    predict: Predict, loadable: list[str], modules: list[str], device: str
) -> None:
    result = predict(*loadable, modules=modules, required_devices=[device])
    assert result["failed"] and f"no usable {device}" in result["msg"]
