# kairos toolkit: see README.md, or run "make help".

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

TOOLS    := $(patsubst %/main.go,%,$(wildcard kairos/main.go kairos-*/main.go))
# Programs that a person never runs, beside the tool that they belong to.
PARTS    := $(patsubst %/main.go,%,$(wildcard kairos-*/kairos-*/main.go))
MODULES  := $(patsubst %/go.mod,%,$(wildcard */go.mod))
BUILD    ?= build
# In a source archive ("make dist") the file VERSION says it.
ifndef VERSION
VERSION  := $(shell cat VERSION 2>/dev/null || git describe --tags --always --dirty 2>/dev/null || echo devel)
endif

# Where "make install" puts things. Programs and units know BINDIR and LIBDIR: give
# "make build" the same. Not below /usr/local, which a node's own data hides.
DESTDIR     ?=
PREFIX      ?= /usr
BINDIR      ?= $(PREFIX)/bin
MANDIR      ?= $(PREFIX)/share/man
LIBDIR      ?= $(PREFIX)/lib/kairos
UNITDIR     ?= $(PREFIX)/lib/systemd/system
PRESETDIR   ?= $(PREFIX)/lib/systemd/system-preset
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
DATADIR     ?= $(PREFIX)/share/kairos
DRACUTDIR   ?= $(PREFIX)/lib/dracut/modules.d
DBUSDIR     ?= $(PREFIX)/share/dbus-1
POLKITDIR   ?= $(PREFIX)/share/polkit-1/actions
BASHCOMPDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHCOMPDIR  ?= $(PREFIX)/share/zsh/vendor-completions
FISHCOMPDIR ?= $(PREFIX)/share/fish/vendor_completions.d

export PATH := $(PATH):/usr/local/go/bin
GO ?= go

# The programs are static and the same on every machine. The tags choose the
# parts of the dependencies that need no C, and leave out urfave/cli's
# documentation generator.
GO_TAGS    := containers_image_openpgp exclude_graphdriver_btrfs urfave_cli_no_docs
# What a program of the initrd does without: HTTP/2 is 0.4 MB.
GO_TAGS_kairos-config := nethttpomithttp2
# Nor are functions inlined in it: 1.0 MB of 10.3, for a program that runs for milliseconds.
GO_FLAGS_kairos-config := -gcflags=all=-l
BUILDINFO  := github.com/kairos-io/toolkit/lib/buildinfo
# DEBUG=1 keeps symbols and debug information.
GO_LDFLAGS := $(if $(DEBUG),,-s -w) -buildid= -X $(BUILDINFO).Version=$(VERSION) \
	-X $(BUILDINFO).BinDir=$(BINDIR) -X $(BUILDINFO).LibDir=$(LIBDIR)
# Everything is compiled without the workspace and with the same flags, each module by what its own
# go.mod says: what one target has compiled, the next one takes from the cache. A module with a
# directory vendor is built from it, without network ("make dist").
export GO_TAGS
GO_ALONE   := GOWORK=off CGO_ENABLED=0 GOFLAGS="$(GOFLAGS) -buildvcs=false" $(GO)
GO_BUILD   := $(GO_ALONE) build -trimpath -tags "$(GO_TAGS)"
RUNTESTS   := cd tests && $(GO_ALONE) run -trimpath ./cmd/runtests

.DEFAULT_GOAL := build
.PHONY: help setup build build-alone unit lint images e2e check test test-all host-before test-long test-failures test-powercut demo bench fuzz mutants install licenses dist deb rpm clean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make install honours DESTDIR, PREFIX, UNITDIR, PRESETDIR, TMPFILESDIR,"
	@echo "  DRACUTDIR, DBUSDIR, POLKITDIR."
	@echo "  make demo KEEP=1 leaves the machine running and says how to log in."

setup: ## install what the project needs on a fresh Debian machine
	@tests/setup

build: ## build the static programs into build/bin and build/lib
	@mkdir -p $(BUILD)/bin
	@$(foreach tool,$(TOOLS),(cd $(tool) && $(GO_BUILD) -tags "$(GO_TAGS) $(GO_TAGS_$(tool))" $(GO_FLAGS_$(tool)) \
		-ldflags '$(GO_LDFLAGS)' -o $(CURDIR)/$(BUILD)/bin/$(tool) .);)
	@mkdir -p $(BUILD)/lib
	@$(foreach part,$(PARTS),(cd $(part) && $(GO_BUILD) -ldflags '$(GO_LDFLAGS)' -o $(CURDIR)/$(BUILD)/lib/$(notdir $(part)) .);)
	@mkdir -p $(BUILD)/share
	@cd kairos-config && GOOS= GOARCH= $(GO_ALONE) run -trimpath -tags "$(GO_TAGS) $(GO_TAGS_kairos-config)" $(GO_FLAGS_kairos-config) . schema \
		> $(CURDIR)/$(BUILD)/share/cloud-config.schema.json
	@ls -l $(BUILD)/bin $(BUILD)/lib | awk 'NF > 2 {printf "  %-22s %5.1f MB\n", $$NF, $$5 / 1e6}'

build-alone: ## build all packages of each module
	@for module in $(MODULES); do \
		echo "  $$module"; (cd $$module && $(GO_BUILD) ./...); \
	done

check: ## build, lint, unit and command tests: no network, no root, no virtual machine
	@$(RUNTESTS) check

unit: ## the unit and command tests of all modules, with the race detector where goroutines are
	@$(RUNTESTS) unit

lint: ## gofmt, go vet, man pages and units
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "not formatted by gofmt:"; echo "$$bad"; exit 1; }
	@for module in $(MODULES); do (cd $$module && $(GO_ALONE) vet -trimpath -tags "$(GO_TAGS)" ./...); done
	@tests/lint-pages
	@tests/lint-go
	@tests/lint-units

images: build ## build the images and the machine that the end-to-end tests begin with
	@cd tests && $(GO_BUILD) -o ../$(BUILD)/images ./cmd/images && cd .. && $(BUILD)/images

e2e: build ## run the end-to-end tests in virtual machines
	@$(RUNTESTS) e2e

test: host-before ## setup, check and the end-to-end tests: this is what CI runs
	@tests/setup --host
	@$(RUNTESTS) test

test-all: host-before ## everything: also the matrix of failures, long kills, power cuts, fuzzing, mutation; hours
	@tests/setup --host
	@$(RUNTESTS) all

host-before:
	@tests/host remember

demo: setup ## show a node's life in a virtual machine: install, upgrade, fail, fall back
	@$(MAKE) --no-print-directory build
	cd tests && KEEP=$(KEEP) $(GO) run -tags "$(GO_TAGS)" ./cmd/demo

bench: ## run the benchmarks
	@tests/setup --bench
	@$(MAKE) --no-print-directory build
	@for module in $(filter-out tests,$(MODULES)); do \
		(cd $$module && $(GO) test -tags "$(GO_TAGS)" -run '^$$' -bench . -benchmem ./...); \
	done
	cd tests && KAIROS_BENCH=1 $(GO) test -tags "$(GO_TAGS)" -count=1 -timeout 60m -v -run '^TestBench' ./...

# How long each fuzz target runs; how many stagings are killed of each kind, of
# whole layers and of parts of layers.
FUZZTIME ?= 1m
KILLS    ?= 100

fuzz: ## run each fuzz target for FUZZTIME (1m), all of them one after the other
	@for module in $(MODULES); do ( \
		cd $$module; \
		grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n 1 dirname | sort -u | while read -r package; do \
			$(GO) test -tags "$(GO_TAGS)" -list '^Fuzz' $$package | grep '^Fuzz' | while read -r target; do \
				echo "  $$module $$package $$target"; \
				$(GO) test -tags "$(GO_TAGS)" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$package; \
			done; \
		done ); \
	done

test-long: ## the fault tests that take longer: 200 stagings are killed (KILLS=100 each way), and renewals of recovery and boot loader at each change
	cd kairos-upgrade && $(GO) test -tags "$(GO_TAGS)" -count=1 -timeout 60m -v -run '^Test((Recovery|Loader)?Killed|DamagedArchives$$)' ./cmd -kills $(KILLS)

test-failures: setup ## what fails, and what comes back: a matrix of failures, and more; two hours
	tests/setup --systemd
	@$(MAKE) --no-print-directory build
	cd tests && KAIROS_E2E=1 KAIROS_LONG=1 $(GO) test -tags "$(GO_TAGS)" -count=1 -timeout 180m -v \
		-run '^Test(Failures|LoaderUpgrade|UnstableLoader|RecoveryRenewed|Crypt|ExchangedVolume|SecondDisk|ClockOf1970)$$' ./e2e

test-powercut: setup ## cut the power 2,000 times, in all operations; takes hours, ends with a table
	@$(MAKE) --no-print-directory build
	cd tests && KAIROS_POWERCUT=1 $(GO) test -tags "$(GO_TAGS)" -count=1 -timeout 12h -v -run '^TestPowerCuts$$' ./powercut

# How many mutants of each package, how long in all, and which choice of them.
MUTANTS       ?= 5
MUTANTS_LIMIT ?= 20m
SEED          ?= 1

mutants: ## change the code of the packages that decide in MUTANTS (5) places each: do their tests notice?
	@cd tests && $(GO_ALONE) run -trimpath ./cmd/mutants -n $(MUTANTS) -seed $(SEED) -limit $(MUTANTS_LIMIT)

install: ## install programs, units, presets, D-Bus and polkit files, dracut module, man pages, completions
	install -d $(DESTDIR)$(BINDIR)
	install -m 0755 $(addprefix $(BUILD)/bin/,$(TOOLS)) $(DESTDIR)$(BINDIR)
	install -d $(DESTDIR)$(LIBDIR)
	install -m 0755 $(addprefix $(BUILD)/lib/,$(notdir $(PARTS))) $(DESTDIR)$(LIBDIR)
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(PRESETDIR) $(DESTDIR)$(TMPFILESDIR)
	cp -dR --no-preserve=ownership units/system/. $(DESTDIR)$(UNITDIR)
	install -m 0644 $(wildcard units/preset/*.preset) $(DESTDIR)$(PRESETDIR)
	install -d $(DESTDIR)$(LIBDIR)/node
	cp -dR --no-preserve=ownership units/node/. $(DESTDIR)$(LIBDIR)/node
	$(if $(wildcard units/tmpfiles.d/*.conf),install -m 0644 $(wildcard units/tmpfiles.d/*.conf) $(DESTDIR)$(TMPFILESDIR))
	install -d $(DESTDIR)$(DBUSDIR)/system.d $(DESTDIR)$(DBUSDIR)/system-services $(DESTDIR)$(POLKITDIR)
	install -m 0644 units/dbus/system.d/*.conf $(DESTDIR)$(DBUSDIR)/system.d
	install -m 0644 units/dbus/system-services/*.service $(DESTDIR)$(DBUSDIR)/system-services
	install -m 0644 units/polkit/*.policy $(DESTDIR)$(POLKITDIR)
	install -d $(DESTDIR)$(DRACUTDIR)
	cp -dR --no-preserve=ownership units/dracut/. $(DESTDIR)$(DRACUTDIR)
	install -d $(DESTDIR)$(LIBDIR)/repart.d
	install -m 0644 $(wildcard units/repart.d/*.conf) $(DESTDIR)$(LIBDIR)/repart.d
	install -m 0644 units/issue/kairos-recovery.issue $(DESTDIR)$(LIBDIR)/recovery.issue
	install -d $(DESTDIR)$(LIBDIR)/checks/required.d $(DESTDIR)$(LIBDIR)/checks/wanted.d $(DESTDIR)$(LIBDIR)/fallback.d
	for section in $(sort $(patsubst .%,%,$(suffix $(wildcard man/*.[1-8])))); do \
		install -d $(DESTDIR)$(MANDIR)/man$$section; \
		install -m 0644 man/*.$$section $(DESTDIR)$(MANDIR)/man$$section; \
	done
	install -d $(DESTDIR)$(DATADIR)
	install -m 0644 $(BUILD)/share/cloud-config.schema.json $(DESTDIR)$(DATADIR)
	install -m 0644 lib/report/reporttest/json-output.schema.json $(DESTDIR)$(DATADIR)
	install -d $(DESTDIR)$(BASHCOMPDIR) $(DESTDIR)$(ZSHCOMPDIR) $(DESTDIR)$(FISHCOMPDIR)
	for tool in $(TOOLS); do \
		sed "s/@TOOL@/$$tool/g" units/completion/bash > $(DESTDIR)$(BASHCOMPDIR)/$$tool; \
		sed "s/@TOOL@/$$tool/g" units/completion/zsh > $(DESTDIR)$(ZSHCOMPDIR)/_$$tool; \
		sed "s/@TOOL@/$$tool/g" units/completion/fish > $(DESTDIR)$(FISHCOMPDIR)/$$tool.fish; \
	done

	$(if $(RELOCATED),grep -rlE '$(ORIGIN)' $(addprefix $(DESTDIR),$(UNITDIR) $(LIBDIR) $(DBUSDIR) $(DRACUTDIR) $(MANDIR)) | \
		xargs -r sed -i -E 's#/usr/bin/kairos-#$(BINDIR)/kairos-#g; s#/usr/lib/kairos\b#$(LIBDIR)#g; s#^bindir=/usr/bin$$#bindir=$(BINDIR)#')

# Where programs are not in their usual places, files that are installed name the others.
ORIGIN    := /usr/(bin|lib)/kairos|^bindir=/usr/bin$$
RELOCATED  = $(filter-out /usr/bin /usr/lib/kairos,$(BINDIR) $(LIBDIR))

# What the packages are called: 0.2.0~rc.1 for v0.2.0-rc.1, 0~git.HASH without a tag.
PACKAGE_VERSION = $(shell packaging/version '$(VERSION)')
DIST = kairos-toolkit-$(PACKAGE_VERSION)

licenses: ## collect the licences of all modules that the programs are linked from
	@packaging/licenses $(BUILD)/licenses

dist: ## make a source archive with vendored modules: it builds without network
	@GO_ALONE='$(GO_ALONE)' packaging/dist $(BUILD)/dist $(DIST) '$(VERSION)' $(MODULES)

deb: dist ## build Debian packages into build/packages
	@packaging/deb $(BUILD) $(DIST) '$(PACKAGE_VERSION)'

rpm: dist ## build RPM packages into build/packages
	@packaging/rpm $(BUILD) $(DIST) '$(PACKAGE_VERSION)'

clean: ## remove what was built; the cache of base images stays
	rm -rf $(BUILD)
