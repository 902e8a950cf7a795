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

# With sudo only the installing is root's: what is below build/ stays its owner's, who builds there the next time.
OWNER := $(shell stat -c %u build 2>/dev/null || stat -c %u .)
ifeq ($(shell id -u)-$(SUDO_UID),0-$(OWNER))
ifneq ($(OWNER),0)
AS_OWNER := setpriv --reuid=$(SUDO_UID) --regid=$(SUDO_GID) --clear-groups env HOME=$(shell getent passwd $(SUDO_UID) | cut -d : -f 6)
endif
endif

all: build/build.ninja
	$(AS_OWNER) ninja -C build

build/build.ninja:
	rm -rf build/meson-private
	$(AS_OWNER) meson setup build --prefix=$(PREFIX) $(WERROR) $(MESON_ARGS)

# What is installed is what was tested: the plain build, stripped. A log that root made could not be written to by its owner.
install: build/build.ninja
	meson introspect build --buildoptions | grep -q '"name": "prefix", "value": "$(PREFIX)"' || $(AS_OWNER) meson configure build -Dprefix=$(PREFIX)
	$(AS_OWNER) ninja -C build
	$(AS_OWNER) touch build/meson-logs/install-log.txt
	DESTDIR=$(DESTDIR) meson install -C build --no-rebuild --strip

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

# What `kubectl apply -f deploy/kubernetes/installer.yaml` runs on nodes: on top of skerry/runtime.
installer-image: image
	scripts/installer-payload.sh $(SKERRY_CACHE)/store/kernels $(SKERRY_CACHE)/installer
	docker build -t skerry/installer --build-arg VERSION=$$(build/src/cli/skerry --version | cut -d ' ' -f 2) $(SKERRY_CACHE)/installer

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
	rm -rf build-asan/meson-private
	meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 $(MESON_ARGS)

clean:
	rm -rf build build-asan build-faults build-clang build-fuzz

.PHONY: all install install-shim check image installer-image bench fmt lint fuzz asan clean
