# How `sam build` makes the functions' package, on any host: it downloads wheels for the function's
# platform, whatever Python and processor this machine has, and builds none from source.
#
# The template's parameter Architecture chooses the folder (arm64/ or x86_64/) whose Makefile
# includes this file, so that the package always fits the function. SAM copies handler/ into a
# temporary folder, makes that the working directory and sets ARTIFACTS_DIR. The function is
# handler/ and the rooms of the library that it imports; no other may be needed.
#
#   PYTHON_VERSION  of the package; a version other than the template's is for local runs only
#   PYTHON          an interpreter with pip (any version)
#   COMPILER        an interpreter of the package's version, to compile its .py files; optional
#   PIP_FLAGS       more options for pip, such as an index

ROOT := $(abspath $(dir $(lastword $(MAKEFILE_LIST)))../..)
ROOMS := __init__.py errors.py storage photos model table pipeline

PYTHON_VERSION ?= 3.13
PYTHON ?= python3
COMPILER ?= python$(PYTHON_VERSION)
# Lambda's limit is 250 MB; a package above this one contains something that it does not need.
MAX_MEGABYTES := 200

MACHINE := $(if $(filter arm64,$(ARCHITECTURE)),aarch64,$(ARCHITECTURE))
# Lambda's python3.12 and later have glibc 2.34; pip needs every older tag that fits by name.
PLATFORMS := $(foreach tag,2_34 2_31 2_28 2_27 2_24 2_17,--platform manylinux_$(tag)_$(MACHINE)) \
	--platform manylinux2014_$(MACHINE)

# Never loaded: accelerators and compilers for graphics and neural processors that Lambda does not
# have, and commands. Tests of NumPy and others are removed below.
UNUSED := ai_edge_litert/libLiteRtWebGpuAccelerator.so ai_edge_litert/vendors ai_edge_litert/tools \
	ai_edge_litert/aot numpy/f2py bin

.PHONY: build-LabelFunction build-CompactFunction libraries code
# Both functions have the same package, and SAM builds the label function's first.
build-CompactFunction:
	@if test -e "$(ARTIFACTS_DIR)/../LabelFunction.complete"; \
	then cp -a "$(ARTIFACTS_DIR)/../LabelFunction/." "$(ARTIFACTS_DIR)"; \
	else $(MAKE) -f $(firstword $(MAKEFILE_LIST)) build-LabelFunction; fi

build-LabelFunction: libraries code
# /var/task is read-only on Lambda, so code that is not compiled here is compiled at every cold
# start: 0.3 s of 0.5. Unchecked, because SAM's zip does not keep the times that Python compares.
	@case $$($(COMPILER) --version 2>/dev/null) in "Python $(PYTHON_VERSION)."*) \
		$(COMPILER) -m compileall -q --invalidation-mode unchecked-hash "$(ARTIFACTS_DIR)";; \
	*) echo "$@: no python$(PYTHON_VERSION) here (set COMPILER): not compiled, starts slower";; esac
	@size=$$(du -sm --apparent-size "$(ARTIFACTS_DIR)" | cut -f1); \
	echo "$@: python$(PYTHON_VERSION), $(ARCHITECTURE), $$size MB unzipped"; \
	test $$size -lt $(MAX_MEGABYTES) || { \
		echo "$@: over the limit of $(MAX_MEGABYTES) MB" >&2; exit 1; }
	@touch "$(ARTIFACTS_DIR).complete"

libraries:
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-compile \
		--root-user-action ignore --target "$(ARTIFACTS_DIR)" --only-binary :all: \
		--implementation cp --python-version $(PYTHON_VERSION) $(PLATFORMS) $(PIP_FLAGS) \
		--require-hashes --requirement requirements.txt
	@cd "$(ARTIFACTS_DIR)" && rm -rf $(UNUSED)
	@find "$(ARTIFACTS_DIR)" -type d -name tests -prune -exec rm -rf {} +

code:
	@cd "$(ROOT)" && tar --exclude=__pycache__ --exclude=photos.csv --exclude=handler/requirements.* \
		-cf - handler $(addprefix alpaca_labeler/,$(ROOMS)) | tar -C "$(ARTIFACTS_DIR)" -xf -
