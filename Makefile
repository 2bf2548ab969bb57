# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
PY := .venv/bin/python
PYTEST := $(PY) -m pytest
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help venv packages demo test docs lint unit vectors integration long soak hardware bench bench-compare bench-fleet bench-libvirt molecule matrix package-names releases release build clean

help:  ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

venv:  ## A virtual environment in .venv with all that checks and tests need
	@tools/venv.sh requirements-dev.txt

packages:
	@tools/install-packages.sh qemu-system-x86 qemu-system-arm qemu-system-ppc qemu-system-misc qemu-utils busybox-static e2fsprogs zstd systemd-container mmdebstrap openssh-client socat xfsprogs btrfs-progs dosfstools mtools fdisk ovmf genisoimage xorriso dnsmasq-base nftables qemu-efi-aarch64

demo:  ## Sandboxes on this host from nothing: provision, start, pause, resume, resize, remove
	@tools/venv.sh requirements.txt
	@tools/demo.sh

test:  ## Lint, vectors, the essential scenarios on fresh hosts, unit tests, integration with real QEMU
	@tools/test.sh

docs:  ## The documentation site in build/site, and the generated parts of docs/: capabilities, playbooks, pictures, the table of states
	@tools/venv.sh requirements-docs.txt
	@$(PY) -m tools.capabilities
	@$(PY) -m tools.playbooks
	@$(PY) -m tools.diagrams
	@$(PY) -m tools.docsite

lint: venv  ## ruff, mypy, ansible-test sanity, ansible-lint, antsibull, reuse, galaxy-importer
	@tools/install-packages.sh shellcheck || true
	@$(PY) tools/lint.py $(CHECKS)

unit: venv  ## Unit tests: two minutes, nothing but Python
	@$(PYTEST) -n 2 tests/unit

vectors: venv  ## Compare what Kata 1.x did with what the drivers do
	@$(PY) tests/vectors/run.py tests/vectors

integration: venv packages  ## Real QEMU on this host; WORKERS=2 runs two tests at a time, SHORT=1 leaves out those of make long
	@$(PYTEST) $(if $(WORKERS),-n $(WORKERS) --dist loadgroup --no-loadscope-reorder) $(if $(SHORT),-m "not long") --durations=30 tests/integration --ignore=tests/integration/hardware

long: venv packages  ## The integration tests that make test leaves out: they take minutes each, or need a browser
	@tools/install-packages.sh chromium
	@$(PYTEST) -m long tests/integration --ignore=tests/integration/hardware

soak: venv packages  ## Random tasks on real QEMU, attacks from jails and VMM users, power losses, wrong answers; KATA_SOAK_STEPS, KATA_SOAK_SEED
	@$(PYTEST) -s tests/integration/soak_random_wishes.py tests/integration/soak_jail_attacks.py
	@KATA_KILL_STEP=1 $(PYTEST) tests/integration/networks/test_networks.py -k killed
	@KATA_ATTACK_ROUNDS=$${KATA_ATTACK_ROUNDS:-1000} $(PYTEST) tests/integration/qemu/test_attacks.py
	@KATA_POWER_LOSS_ROUNDS=$${KATA_POWER_LOSS_ROUNDS:-60} $(PYTEST) tests/integration/hosts/test_power_loss.py
	@KATA_WRONG_ANSWERS=1000000 $(PYTEST) tests/unit/plugins/module_utils/hypervisors/firecracker/test_answers.py tests/unit/plugins/module_utils/hypervisors/qemu/test_qmp_answers.py tests/unit/plugins/module_utils/hypervisors/acrn/test_answers.py tests/unit/plugins/module_utils/host/test_answers.py
	@KATA_VECTOR_INPUTS=50 $(PYTEST) tests/unit/test_vectors_fuzz.py

hardware: venv packages  ## VFIO, vsock, vhost-net and KVM, on a host that is a VM: a QEMU in a QEMU, so not part of make test
	@$(PYTEST) tests/integration/hardware

bench: venv packages  ## Medians of what a user waits for, beside their limits; GROUPS="task many", ROUNDS=10, JSON=FILE
	@$(PY) -m tests.bench.run $(GROUPS) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(JSON),--json $(JSON))

bench-compare: venv packages  ## The same of this checkout and of commit REV, in turns; GROUPS, ROUNDS
	@$(PY) -m tests.bench.compare $(REV) $(GROUPS) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-libvirt: venv packages  ## Our tasks beside community.libvirt and virsh, where libvirt and its collection are installed
	@$(PY) -m tests.bench.run libvirt $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(JSON),--json $(JSON))

bench-fleet: venv packages  ## From fresh hosts to running sandboxes, step by step, and the same again
	@$(PY) -m tests.bench.fleet $(HOSTS)
	@$(PY) -m tests.bench.run fleet --rounds 1

molecule: venv packages  ## Roles and playbooks on throw-away hosts; SCENARIOS="default web", HOST_RELEASE=trixie
	@HOST_RELEASE=$(HOST_RELEASE) tools/molecule.sh $(SCENARIOS)

package-names: venv  ## Compare the packages that roles install with what distributions publish; NAMES="ubuntu"
	@$(PY) -m tools.package_names $(NAMES)

matrix: venv packages  ## Units, sanity and a sandbox's life with every supported ansible-core and Python; SESSIONS="smoke units(2.21-3.14)"
	@tools/install-packages.sh patchelf shellcheck
	@$(PY) -m tests.hosts.pythons
	@.venv/bin/uv tool run --quiet --python $(PY) --from "nox >= 2026.2, < 2027" nox $(if $(SESSIONS),--sessions $(foreach name,$(SESSIONS),"$(name)"))

releases: venv packages  ## Real QEMU of other Debian releases: RELEASES="bullseye bookworm trixie sid"
	@$(PY) -m tests.hosts.releases $(or $(RELEASES),bullseye bookworm trixie sid)

release: venv  ## Test, then set VERSION, make the changelog of its fragments, commit, tag and build the tarball; nothing is published
	@$(PY) tools/release.py check $(or $(VERSION),$(error VERSION=1.2.0 is required))
	@$(MAKE) test
	@$(PY) tools/release.py make $(VERSION)

build: venv  ## The tarball for ansible-galaxy collection install
	@.venv/bin/ansible-galaxy collection build --force

clean:  ## Remove what make made here, but not what sandboxes use
	@rm -rf .venv .cache build .ansible .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/output kata-hypervisor-*.tar.gz
