# pyoci: `make run` shows it, `make test` proves it.  Both set up what is missing by themselves.

PREFIX ?= /usr/local
DESTDIR ?=
# Debian's interpreter, by its full path: a runtime that root's engines call depends on no PATH.
PYTHON ?= /usr/bin/python3
CC ?= cc
CFLAGS ?= -std=gnu11 -O2 -Wall -Wextra -Werror
PYTEST_ARGS ?=
ENGINES_ARGS ?=
FUZZ_SECONDS ?= 600

LIBDIR := $(PREFIX)/lib/pyoci
VENV := .venv
SHARE ?= build/share
SOURCES = $(wildcard libexec/*.c)
HEADERS = $(wildcard libexec/*.h)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# What building and running takes; what the tests and the bench add.
APT_RUN := gcc libc6-dev make python3 python3-venv python3-dev libcap-dev busybox-static conmon nftables curl
APT_TEST := runc crun podman slirp4netns tini strace uidmap shellcheck libseccomp2 python3-seccomp \
	iproute2 procps util-linux clang libclang-rt-dev groff-base zsh fish criu docker-registry apache2-utils openssl
APT_VM := qemu-system-x86 mmdebstrap e2fsprogs cpio kmod

# The engines of `make test-engines`, and what they call.
APT_ENGINES := podman conmon buildah containerd docker.io skopeo umoci uidmap slirp4netns fuse-overlayfs iptables \
	catatonit tini netavark aardvark-dns containernetworking-plugins crun runc

# A shell function: installs those of its arguments that dpkg does not know as installed.  RUNLEVEL=1 tells
# invoke-rc.d to start none of the daemons in them.
define apt_install
missing=; for package in $(1); do \
	dpkg-query -W -f '$${db:Status-Status}' "$$package" 2>/dev/null | grep -qx installed || missing="$$missing $$package"; \
done; \
if [ -n "$$missing" ]; then \
	echo "installing:$$missing"; \
	command -v apt-get >/dev/null || { echo "no apt-get here: please install$$missing" >&2; exit 1; }; \
	$(SUDO) apt-get -qq update && \
	$(SUDO) env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y $$missing >build/apt.log 2>&1 \
		|| { cat build/apt.log >&2; exit 1; }; \
fi
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run web test test-teeth test-security-long fuzz test-vm vm-shell conformance-vm check bench bench-engines plans build venv install share wheel clean

help: ## list what can be made
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

run: build ## show a bundle's whole life, command by command
	@bundles/run-demo

web: build $(VENV)/stamp ## show mydocker: a web server with a published port and a limit of memory
	@bundles/run-web

test: build build/nsexec-asan build/apt-test $(VENV)/stamp ## every test (PYTEST_ARGS= chooses)
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

test-teeth: build build/apt-test $(VENV)/stamp ## take every defence out once: its test must fail (TEETH= chooses)
	$(SUDO) $(VENV)/bin/python -m tests.security.teeth $(TEETH)

test-security-long: build build/apt-test $(VENV)/stamp ## the attacks, thousands of rounds; the suite on degraded kernels (two hours)
	$(SUDO) env PYOCI_LONG=1 $(VENV)/bin/python -m pytest tests/security $(PYTEST_ARGS)

fuzz: build/fuzz_plan build/fuzz_words ## fuzz what C reads: plans, command lines, passwd (FUZZ_SECONDS=600 each); plans go to tests/security/corpus
	build/fuzz_words -max_total_time=$(FUZZ_SECONDS) -max_len=2048 -artifact_prefix=build/fuzz-
	build/fuzz_plan -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -artifact_prefix=build/fuzz- tests/security/corpus

test-vm: build build/apt-vm $(VENV)/stamp ## tests on cgroup v2, systemd and AppArmor, in a virtual machine (VM_ARGS=, VM_CGROUPS=)
	$(VENV)/bin/python -m tests.vm.boot test $(VM_ARGS)
	$(VENV)/bin/python -m pytest -p tests.vm.report build/vm/results/*.xml

conformance-vm: build build/apt-vm $(VENV)/stamp ## the same rows on cgroup v2 and systemd, in the virtual machine (half an hour)
	VM_DEADLINE=7200 $(VENV)/bin/python -m tests.vm.boot command 'conformance/compare build/pyoci runc crun --record /results && \
		{ [ ! -d validation-tree ] || for runtime in build/pyoci runc crun; do conformance/validation $$runtime --tree validation-tree --timeout 300 || exit; done; }'
	cp build/vm/results/v2.txt conformance/recorded/v2.txt
	conformance/compare --write docs/CONFORMANCE.md

vm-shell: build build/apt-vm $(VENV)/stamp ## a root shell in that virtual machine (poweroff leaves it)
	$(VENV)/bin/python -m tests.vm.boot shell

test-engines: build build/apt-engines $(VENV)/stamp ## podman, containerd, docker, buildah on pyoci (ENGINES_ARGS=)
	$(SUDO) $(VENV)/bin/python -m tests.engines.matrix $(ENGINES_ARGS)

check: build/apt-test $(VENV)/stamp ## the linters alone: ruff, mypy --strict, shellcheck, cc -Werror
	$(VENV)/bin/python -m pytest -q tests/unit/test_lint.py tests/unit/test_layers.py

bench: build build/apt-test ## measure against runc and crun, rewrite the table in docs/PERFORMANCE.md
	$(PYTHON) bench/bench.py --write docs/PERFORMANCE.md

bench-engines: build build/apt-engines $(VENV)/stamp ## the same felt through podman and docker
	$(SUDO) $(VENV)/bin/python bench/engines.py --write docs/PERFORMANCE.md

conformance: build build/apt-test $(VENV)/stamp ## the spec's 159 rows on pyoci, runc and crun, rewrite docs/CONFORMANCE.md
	$(SUDO) conformance/compare build/pyoci runc crun --record conformance/recorded --write docs/CONFORMANCE.md

plans: ## rewrite the golden plans in bundles/: the diff is the review
	$(PYTHON) -m tests.golden --update

build: build/nsexec build/mydocker build/image ## compile libexec/ into build/

venv: $(VENV)/stamp ## the virtual environment of the developer's tools

wheel: $(VENV)/bin/pip ## build dist/*.whl
	$(VENV)/bin/pip wheel --quiet --disable-pip-version-check --use-pep517 --no-deps --wheel-dir dist .

install: $(VENV)/bin/pip ## install under PREFIX (/usr/local), into DESTDIR if that is set
	rm -rf "$(DESTDIR)$(LIBDIR)"
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(LIBDIR)"
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --use-pep517 --no-compile --target "$(DESTDIR)$(LIBDIR)" .
	rm -rf "$(DESTDIR)$(LIBDIR)/bin"
	$(PYTHON) -m compileall -q -s "$(DESTDIR)" "$(DESTDIR)$(LIBDIR)"
	$(CC) $(CFLAGS) -DPYOCI_PYTHON='"$(PYTHON)"' -DPYOCI_HOME='"$(LIBDIR)/pyoci"' -static -o build/pyoci.install $(SOURCES)
	install -m 755 build/pyoci.install "$(DESTDIR)$(PREFIX)/bin/pyoci"
	ln -sf pyoci "$(DESTDIR)$(PREFIX)/bin/mydocker"
	$(PYTHON) -I -S "$(DESTDIR)$(LIBDIR)/pyoci/image_make.py"
	$(MAKE) -s share SHARE="$(DESTDIR)$(PREFIX)/share"

# SHARE= is where to: manual, completion of the command line, and what engines want to be told (docs/ENGINES.md).
share: ## write manual pages, shell completion and the engines' snippets to build/share
	$(PYTHON) -B -m pyoci.cli.manpages "$(SHARE)/man/man1"
	install -d "$(SHARE)/bash-completion/completions" "$(SHARE)/zsh/site-functions" "$(SHARE)/fish/vendor_completions.d"
	$(PYTHON) -B -I -S pyoci/__main__.py completion bash >"$(SHARE)/bash-completion/completions/pyoci"
	$(PYTHON) -B -I -S pyoci/__main__.py completion zsh >"$(SHARE)/zsh/site-functions/_pyoci"
	$(PYTHON) -B -I -S pyoci/__main__.py completion fish >"$(SHARE)/fish/vendor_completions.d/pyoci.fish"
	cd share && for file in */*; do install -d "$(abspath $(SHARE))/pyoci/$${file%/*}" && \
		sed 's|@BINDIR@|$(PREFIX)/bin|' "$$file" >"$(abspath $(SHARE))/pyoci/$$file" || exit 1; done

clean: ## remove what was built (not the virtual environment)
	rm -rf build dist

# -- what the above stand on ------------------------------------------------------------------

build/apt-run: Makefile
	@mkdir -p build
	@$(call apt_install,$(APT_RUN))
	@touch $@

build/apt-test: Makefile build/apt-run
	@$(call apt_install,$(APT_TEST))
	@touch $@

build/apt-vm: Makefile build/apt-run
	@$(call apt_install,$(APT_VM))
	@touch $@

build/apt-engines: Makefile build/apt-test
	@$(call apt_install,$(APT_ENGINES))
	@touch $@

$(VENV)/bin/pip: | build/apt-run
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/stamp: pyproject.toml | $(VENV)/bin/pip
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --use-pep517 -e '.[test]'
	@touch $@

build/pyoci: $(SOURCES) $(HEADERS) Makefile | build/apt-run
	$(CC) $(CFLAGS) -DPYOCI_PYTHON='"$(PYTHON)"' -static -o $@ $(SOURCES)

# The same file under the names that make it the other programs.
build/nsexec build/mydocker: build/pyoci
	ln -f $< $@

# The modules of the hot path in one file, in pyoci/__pycache__ (pyoci/image.py); this is its stamp.
build/image: $(shell find pyoci -name '*.py') | build/apt-run
	$(PYTHON) -I -S pyoci/image_make.py
	@touch $@

# libFuzzer on the plan reader, with the sanitizers.
build/fuzz_plan: tests/security/fuzz_plan.c libexec/plan.c $(HEADERS) Makefile | build/apt-test
	clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o $@ tests/security/fuzz_plan.c libexec/plan.c

build/fuzz_words: tests/security/fuzz_words.c $(SOURCES) $(HEADERS) Makefile | build/apt-test
	clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o $@ tests/security/fuzz_words.c \
		$(filter-out %/main.c %/launch.c %/verbs.c %/process.c,$(SOURCES))

# Not static (the sanitizers cannot be): for the tests that feed nsexec broken plans.
build/nsexec-asan: $(SOURCES) $(HEADERS) Makefile | build/apt-run
	$(CC) -std=gnu11 -g -O1 -Wall -Wextra -Werror -fno-omit-frame-pointer \
		-fsanitize=address,undefined -fno-sanitize-recover=all -o $@ $(SOURCES)
