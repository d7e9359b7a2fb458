# The one entry point: `make help` says what there is to do.

# Architectures are named x86_64 and arm64; what others call them is understood too.
HOST := $(patsubst aarch64,arm64,$(shell uname -m))
ARCH ?= $(HOST)
ARCHES = $(patsubst amd64,x86_64,$(patsubst aarch64,arm64,$(ARCH)))
HAUL ?=
K3S ?=
CONFIG ?=
OUT ?= haulboot.img

CARGO = cargo --locked
BUILDER = target/release/builder
DEMO = target/release/demo target/release/demo-haul target/release/acceptance
MUSL_x86_64 = x86_64-unknown-linux-musl
MUSL_arm64 = aarch64-unknown-linux-musl
agent = target/$(MUSL_$(1))/release/agent
hello = target/$(MUSL_$(1))/release/hello
probe = target/$(MUSL_$(1))/release/k3s-probe
pack = target/boot-packs/$(1).bootpack
BOTH = x86_64 arm64
INPUTS = $(addprefix --haul ,$(HAUL)) $(addprefix --k3s ,$(K3S)) $(addprefix --config ,$(CONFIG))

STEP = @scripts/step.sh

# The agent lies in the initramfs and in memory: built for size (at most 8 MiB), the builder for
# speed. Cargo has one release profile for both, so what differs comes by its environment.
SMALL = CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 CARGO_PROFILE_RELEASE_OPT_LEVEL=s

# TLS brings the only C of the programs of the node: a compiler of the distribution's makes it for
# its own architecture with the ordinary name, for the other one with a prefix. It needs no C
# library; what distributions switch on by themselves would call for theirs.
CC_x86_64 = $(if $(filter x86_64,$(HOST)),gcc,x86_64-linux-gnu-gcc)
CC_arm64 = $(if $(filter arm64,$(HOST)),gcc,aarch64-linux-gnu-gcc)
NODE_C = $(foreach a,$(BOTH),CC_$(subst -,_,$(MUSL_$(a)))=$(CC_$(a)) \
	CFLAGS_$(subst -,_,$(MUSL_$(a)))="-U_FORTIFY_SOURCE -fno-stack-protector")

.DEFAULT_GOAL := all
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: all agents probes demo acceptance test test-all bench conformance image lint dist setup help clean FORCE

all: setup-all $(BUILDER) agents $(foreach a,$(BOTH),$(call pack,$(a))) ## build everything: builder, agents, boot packs
	@printf '\n%s\n' 'Built:'
	@ls -1 $(BUILDER) $(foreach a,$(BOTH),$(call agent,$(a)) $(call pack,$(a))) | sed 's/^/  /'
	@printf '%s\n' 'Next: make demo, or make image HAUL=haul.tar.zst OUT=haulboot.img'

# Where no k3s is given its stand-in takes its place; a haul of one's own may lack what it pulls.
demo: setup-demo $(BUILDER) $(DEMO) $(foreach a,$(ARCHES),$(call pack,$(a)) $(if $(K3S)$(HAUL),,$(call probe,$(a)))) $(foreach a,$(BOTH),$(call hello,$(a))) ## boot a demonstration haul in QEMU [ARCH= HAUL= K3S= CONFIG=]
	$(STEP) tools 'kubectl, for the demonstration' tests/tools.sh
	@target/release/demo --arch $(ARCHES) $(INPUTS) \
		$(foreach a,$(BOTH),--program $(a)=$(call hello,$(a)))

acceptance: setup-demo $(BUILDER) $(DEMO) $(foreach a,$(ARCHES),$(call pack,$(a)) $(if $(K3S),,$(call probe,$(a)))) $(foreach a,$(BOTH),$(call hello,$(a))) ## a server and an agent in QEMU: mirror, Helm, several pods [K3S= HAUL= ARCH=]
	$(STEP) tools 'kubectl and helm' tests/tools.sh
	@target/release/acceptance --arch $(ARCHES) $(addprefix --haul ,$(HAUL)) $(addprefix --k3s ,$(K3S))

test: setup-test $(BUILDER) agents $(foreach a,$(BOTH),$(call pack,$(a)) $(call hello,$(a)) $(call probe,$(a))) ## every unit, property and client test, and the boots marked ci
	$(STEP) tools 'helm, for the tests' tests/tools.sh
	@scripts/test.sh ci

test-all: setup-test $(BUILDER) agents $(foreach a,$(BOTH),$(call pack,$(a)) $(call hello,$(a)) $(call probe,$(a))) ## make test, with every boot
	$(STEP) tools 'helm, for the tests' tests/tools.sh
	@scripts/test.sh all

bench: setup-bench $(BUILDER) $(call agent,$(HOST)) $(if $(ONLY),,$(call pack,$(HOST))) ## the registry beside docker-registry and nginx [ONLY=PART]
	$(STEP) bench 'bench' $(CARGO) build --release -p tests --bin bench
	@target/release/bench $(addprefix --only ,$(ONLY))

conformance: setup-image $(BUILDER) $(call agent,$(HOST)) ## OCI's conformance suite against the registry; needs Go 1.24
	@tests/conformance.sh $(BUILDER) $(call agent,$(HOST))

image: setup-image $(BUILDER) $(foreach a,$(ARCHES),$(call pack,$(a))) ## write an image: HAUL=FILE [K3S= CONFIG= ARCH= OUT=]
	@$(BUILDER) $(INPUTS) $(addprefix --arch ,$(ARCHES)) -o $(OUT)

lint: setup-lint ## formatting, clippy, shell scripts, licences and advisories
	@env $(NODE_C) scripts/lint.sh

dist: setup-dist agents $(BUILDER) $(foreach a,$(BOTH),$(call pack,$(a))) ## archives that work on a machine without Rust
	@scripts/dist.sh

# Not what the benchmark needs: those packages start services.
setup: setup-all setup-demo setup-test setup-lint setup-dist ## install what any of these needs; the others do it themselves

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F"|" '{ printf "%-20s%s\n", $$1, $$2 }'

clean: ## remove everything that was built
	rm -rf target

# What each goal needs of the machine, in the words of scripts/packages.list.
CROSS = $(addprefix cross-,$(filter-out $(HOST),$(BOTH)))
NEEDS_all = build pack $(CROSS)
NEEDS_image = build pack $(CROSS)
NEEDS_demo = build pack demo $(CROSS) $(addprefix boot-,$(ARCHES))
NEEDS_test = build pack test $(CROSS) $(addprefix boot-,$(BOTH))
NEEDS_bench = build pack bench $(CROSS) boot-$(HOST)
NEEDS_lint = build lint $(CROSS)
NEEDS_dist = build pack dist $(CROSS)
setup-%: FORCE
	@scripts/setup.sh $(NEEDS_$*)

# Cargo knows what is up to date, so it is always asked.
$(BUILDER): FORCE
	$(STEP) builder 'builder' $(CARGO) build --release -p builder

$(DEMO) &: FORCE
	$(STEP) demo-programs 'demonstration: programs of this machine' $(CARGO) build --release -p tests --bins

# Only what starts in place of k3s in tests.
probes: $(foreach a,$(BOTH),$(call probe,$(a)))

agents: $(foreach a,$(BOTH),$(call agent,$(a)))

# Per architecture: the programs that run on the node, the packages it boots from, the boot pack.
define PER_ARCH
$(call agent,$(1)): FORCE
	$$(STEP) agent-$(1) 'agent for $(1)' env $$(SMALL) $$(NODE_C) $$(CARGO) build --release -p agent --target $(MUSL_$(1))

$(call hello,$(1)): FORCE
	$$(STEP) hello-$(1) 'demonstration: program of its images for $(1)' \
		$$(CARGO) build --release -p hello --target $(MUSL_$(1))

$(call probe,$(1)): FORCE
	$$(STEP) probe-$(1) 'stand-in for k3s, for the tests, for $(1)' \
		env $$(SMALL) $$(NODE_C) $$(CARGO) build --release -p k3s-probe --target $(MUSL_$(1))

target/packages/$(1)/packages.tsv: firmware/fetch.sh firmware/packages/$(1).list
	$$(STEP) packages-$(1) 'kernel and boot loader for $(1), from Debian' \
		firmware/fetch.sh $(1) target/packages/$(1)
	@touch $$@

$(call pack,$(1)): $(BUILDER) $(call agent,$(1)) target/packages/$(1)/packages.tsv $$(wildcard firmware/modules/*)
	$$(STEP) boot-pack-$(1) 'boot pack for $(1)' \
		$(BUILDER) bootpack --arch $(1) --packages target/packages/$(1) --agent $(call agent,$(1)) -o $$@
endef
$(foreach a,$(BOTH),$(eval $(call PER_ARCH,$(a))))

FORCE:
