# A thin front: everything is done by meson and by the scripts that these targets name. CONTRIBUTING.md tells the build directories.
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 600
MESON_ARGS ?=
SKERRY_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/skerry-check
export SKERRY_CACHE
IMAGE_DIR := $(SKERRY_CACHE)/runtime
# In CI a warning is an error.
WERROR := $(if $(CI),--werror)

all: build/build.ninja
	ninja -C build

build/build.ninja:
	meson setup build --prefix=$(PREFIX) $(WERROR) $(MESON_ARGS)

# What is installed is what was tested: the plain build, stripped.
install: all
	meson configure build -Dprefix=$(PREFIX)
	DESTDIR=$(DESTDIR) meson install -C build --strip

# containerd's runtime: installed beside skerry, with a kernel to boot when there is none.
install-shim: install
	$(DESTDIR)$(PREFIX)/bin/skerry kernel list --quiet | grep -q . || $(DESTDIR)$(PREFIX)/bin/skerry kernel import debian

check:
	./check

# Container images: a docker daemon and Debian's packages are all that it takes. SKERRY_IMAGE_FRESH=1 takes today's packages.
image: all
	scripts/test-store.sh
	scripts/test-runtime-image.sh
	docker build -t skerry/runtime --build-arg VERSION=$$(build/src/cli/skerry --version | cut -d ' ' -f 2) $(IMAGE_DIR)/runtime
	docker build -t skerry/debian $(IMAGE_DIR)/debian
	docker images --filter 'reference=skerry/*'

bench: all
	scripts/bench.sh

fmt:
	scripts/lint.sh fmt

lint: all
	scripts/lint.sh

fuzz:
	FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz.sh

# AddressSanitizer and UndefinedBehaviorSanitizer.
asan: build-asan/build.ninja
	ninja -C build-asan

build-asan/build.ninja:
	meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false $(WERROR) $(MESON_ARGS)

clean:
	rm -rf build build-asan build-faults build-clang build-fuzz

.PHONY: all install install-shim check image bench fmt lint fuzz asan clean
