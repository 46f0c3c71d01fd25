# The two commands that a new clone needs are `make demo` and `make test`.

SHELL := /bin/bash
PREFIX ?= /usr/local
override PREFIX := $(patsubst ~/%,$(HOME)/%,$(PREFIX))
SWIFT ?= swift
PACKAGES ?= libopenblas-dev libyaml-dev zlib1g-dev
# Swift's runtime goes into the program where it can, so that it runs where no Swift is and starts in half the time.
RELEASE = -c release $(if $(filter Linux,$(shell uname)),--static-swift-stdlib --disable-local-rpath)
BINARY = $$($(SWIFT) build $(RELEASE) --show-bin-path)/lora-surgery
ROOT = $(DESTDIR)$(PREFIX)
BASH_COMPLETIONS ?= share/bash-completion/completions
ZSH_COMPLETIONS ?= share/zsh/site-functions
FISH_COMPLETIONS ?= share/fish/vendor_completions.d

.PHONY: demo build test corpus fuzz interop torture cluster bench format lint man docs install uninstall \
  can-install deb packages clean

demo: build
	@rm -rf .build/demo && mkdir -p .build/demo
	@set -euo pipefail; run() { printf '\n$$ lora-surgery %s\n' "$$*"; "$(BINARY)" "$$@"; }; \
	run extract --base fixtures/demo/base --tuned fixtures/demo/tuned -o .build/demo/adapter --rank 16; \
	run inspect .build/demo/adapter; \
	run merge fixtures/demo/base .build/demo/adapter -o .build/demo/merged; \
	run compare .build/demo/merged fixtures/demo/tuned --tolerance 0.2; \
	printf '\nThe adapter is in .build/demo/adapter, the merged model in .build/demo/merged.\n'

build: packages
	$(SWIFT) build $(RELEASE) --product lora-surgery

test: packages
	$(SWIFT) test

# A folder of malformed and unusual files with its own judge: make corpus DIR=…
corpus: build
	python3 "$(DIR)/run.py" "$(BINARY)" "$(DIR)" --words

# Every reader under libFuzzer with address checking: make fuzz [SECONDS=600] [TARGETS="npz torch"]
fuzz:
	Fuzz/run.sh $(or $(SECONDS),600) $(TARGETS)

# Outputs read back by numpy, safetensors, torch, gguf and PEFT, from PyPI or by PYTHON=….
interop: build
	fixtures/interop/run.sh "$(BINARY)"

# Kills, full disks, lost power and I/O errors at every stage of what writes a result; MODE=long takes hours.
torture: PACKAGES += gcc libc6-dev python3 strace
torture: build
	LORA_SURGERY="$(BINARY)" Tests/Torture/crash.sh $(or $(MODE),quick)

# Job arrays on a Slurm of the test's own, with a task killed and requeued; as root or with sudo.
cluster: build
	LORA_SURGERY="$(BINARY)" Tests/Cluster/slurm.sh

bench: build
	Benchmarks/run.sh

format:
	$(SWIFT) format --in-place --recursive Package.swift Sources Tests

lint:
	$(SWIFT) format lint --strict --recursive Package.swift Sources Tests

# Writes the pages of the commands from their declarations and man/sections, and checks all pages.
man: packages
	RECORD_MANUAL=1 $(SWIFT) test --filter ManualTests
	.ci/man

# The library's documentation, in .build/docs; a warning is an error.
docs: packages
	.ci/docs

install: can-install build
	install -d "$(ROOT)/bin" "$(ROOT)/share/man/man1" "$(ROOT)/share/man/man5" \
	  "$(ROOT)/$(BASH_COMPLETIONS)" "$(ROOT)/$(ZSH_COMPLETIONS)" "$(ROOT)/$(FISH_COMPLETIONS)"
	install -s -m 755 "$(BINARY)" "$(ROOT)/bin/lora-surgery"
	install -m 644 man/*.1 "$(ROOT)/share/man/man1"
	install -m 644 man/*.5 "$(ROOT)/share/man/man5"
	@set -euo pipefail; complete() { \
	  "$(BINARY)" --generate-completion-script "$$1" >"$$2.new"; chmod 644 "$$2.new"; mv "$$2.new" "$$2"; }; \
	complete bash "$(ROOT)/$(BASH_COMPLETIONS)/lora-surgery"; \
	complete zsh "$(ROOT)/$(ZSH_COMPLETIONS)/_lora-surgery"; \
	complete fish "$(ROOT)/$(FISH_COMPLETIONS)/lora-surgery.fish"
	@echo "installed in $(ROOT)"

uninstall:
	rm -f "$(ROOT)/bin/lora-surgery" "$(ROOT)"/share/man/man[15]/lora-surgery*.[15] \
	  "$(ROOT)/$(BASH_COMPLETIONS)/lora-surgery" "$(ROOT)/$(ZSH_COMPLETIONS)/_lora-surgery" \
	  "$(ROOT)/$(FISH_COMPLETIONS)/lora-surgery.fish"

# Says before a build of minutes that its result could not be put anywhere.
can-install:
	@place="$(ROOT)"; while [ ! -e "$$place" ]; do place=$$(dirname "$$place"); done; \
	if [ ! -d "$$place" ] || [ ! -w "$$place" ]; then \
	  echo "make install: cannot write to $$place" >&2; \
	  echo "hint: make install PREFIX=~/.local needs no rights; sudo make install does" >&2; exit 73; \
	fi

# The package lora-surgery_VERSION_ARCHITECTURE.deb in .build.
deb: build
	debian/rules binary OUTPUT=.build
	debian/rules clean

# Debian's packages that a build needs, or those that are named, where they are missing; sudo only where it is needed and there.
packages:
	@missing=(); \
	for package in $(PACKAGES); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing+=($$package); \
	done; \
	if command -v dpkg-query >/dev/null && [ $${#missing[@]} -gt 0 ]; then \
	  echo "installing $${missing[*]}"; \
	  as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  $$as_root apt-get update -qq && $$as_root apt-get install -y -qq "$${missing[@]}" >/dev/null; \
	fi

clean:
	rm -rf .build
