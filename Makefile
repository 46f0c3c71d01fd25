# The two commands that a new clone needs are `make demo` and `make test`.

SHELL := /bin/bash
PREFIX ?= /usr/local
SWIFT ?= swift
BINARY = $$($(SWIFT) build -c release --show-bin-path)/lora-surgery

.PHONY: demo build test corpus fuzz interop torture cluster bench format lint install packages clean

demo: build
	@rm -rf .build/demo && mkdir -p .build/demo
	@set -euo pipefail; run() { printf '\n$$ lora-surgery %s\n' "$$*"; "$(BINARY)" "$$@"; }; \
	run extract --base fixtures/demo/base --tuned fixtures/demo/tuned -o .build/demo/adapter --rank 16; \
	run inspect .build/demo/adapter; \
	run merge fixtures/demo/base .build/demo/adapter -o .build/demo/merged; \
	run compare .build/demo/merged fixtures/demo/tuned --tolerance 0.2; \
	printf '\nThe adapter is in .build/demo/adapter, the merged model in .build/demo/merged.\n'

build: packages
	$(SWIFT) build -c release --product lora-surgery

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

# Kills, full disks and I/O errors at every stage of a merge; MODE=long takes hours.
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

install: build
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 "$(BINARY)" "$(DESTDIR)$(PREFIX)/bin/lora-surgery"

# Debian's development packages, where they are missing; sudo only where it is needed and there.
packages:
	@missing=(); \
	for package in libopenblas-dev libyaml-dev zlib1g-dev; do \
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
