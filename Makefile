# GNU make and plain sh. `make` alone lists the targets.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# "compiled": MMCV with its own operators. This project needs none of them; other models of the toolboxes may.
MMCV ?=

# The pins stand in requirements.txt only; the steps below that need some of them on their own read them from there.
pin = $(shell sed -nE 's/^($(1)[=<>]=[^ ;]*).*/\1/p' requirements.txt)
TORCH := $(call pin,torch) $(call pin,torchvision)
MMCV_PIN := $(call pin,onedl-mmcv)
HEADLESS := $(call pin,opencv-python-headless)
BUILD_TOOLS := $(call pin,setuptools) $(call pin,ninja) wheel packaging

# A stamp is named after the content it stands for, not compared by time, because one VENV may serve several checkouts: the
# checkout that calls make finds either its own stamps or none. The last one holds the checkout's path (the editable install
# points there) and its packages.
key = $(firstword $(shell $(1) | cksum))
HAVE_VENV := $(VENV)/.setup-venv
HAVE_TORCH := $(VENV)/.setup-torch-$(call key,echo '$(BUILD_TOOLS) $(TORCH)')
MMCV_KEY := $(call key,echo '$(TORCH) $(MMCV_PIN)')
# A compiled one stays.
HAVE_MMCV := $(VENV)/.setup-mmcv$(if $(MMCV)$(wildcard $(VENV)/.setup-mmcv-compiled-$(MMCV_KEY)),-compiled)-$(MMCV_KEY)
HAVE_DEPS := $(VENV)/.setup-deps-$(call key,cat requirements.txt)
HAVE_DOCS := $(VENV)/.setup-docs-$(call key,cat setup.py)
HAVE_CHECKOUT := $(VENV)/.setup-checkout-$(call key,{ pwd; cat requirements.txt pyproject.toml setup.py; ls -d */__init__.py; } 2>/dev/null)

AUDIT_VENV := $(VENV)-audit
AUDIT := $(shell sed -nE 's/^ *"audit": \[(.*)\],.*/\1/p' setup.py | tr -d ',')
HAVE_AUDIT := $(AUDIT_VENV)/.setup-audit-$(call key,echo '$(AUDIT)')

VENV_PY := $(VENV)/bin/python
# -qq: errors only. The steps below say what goes on in fewer lines.
PIP := $(VENV_PY) -m pip install -qq --disable-pip-version-check
# PY=python3 on the command line: that Python is used as it is and nothing is set up (conda, a machine without a network).
PY := $(VENV_PY)
READY := $(if $(filter command,$(firstword $(origin PY))),,$(HAVE_CHECKOUT) operators)
# This checkout's code comes first even if another checkout that shares VENV was set up meanwhile. Waiting threads sleep,
# but in what is TIMED: spinning ones make training ten times slower as soon as another program wants a core.
TIMED := PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" $(PY)
RUN := OMP_WAIT_POLICY="$${OMP_WAIT_POLICY:-PASSIVE}" $(TIMED)
say = printf '%s\n' "$(1)"
die = { printf 'make: %s\n' "$(1)" >&2; exit 1; }
# A Python that PY names may lack what an extra ($(2), else dev) installs.
need = missing=$$("$(PY)" -c 'import importlib.util, sys; print(*(m for m in sys.argv[1:] if not importlib.util.find_spec(m)))' $(1)) \
	|| $(call die,$(PY) does not run.); \
	[ -z "$$missing" ] \
		|| { printf 'make: %s lacks %s: run make without PY or install the %s extra (pip install -e ".[%s]").\n' \
			"$(PY)" "$$missing" $(or $(2),dev) $(or $(2),dev) >&2; exit 1; }
stamp = rm -f $(VENV)/.setup-$(1)-*; touch $@

.DEFAULT_GOAL := help
.PHONY: help setup operators lint test fuzz demo docs gpu-check sanitize audit clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' Makefile | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'
	@echo "Variables: VENV=$(VENV) (the environment), PYTHON=$(PYTHON) (what makes it), PY (a Python to use as it is instead),"
	@echo "  MMCV=compiled (MMCV with its own operators, 5 minutes more), ARGS (extra arguments of test, fuzz, demo, sanitize, audit),"
	@echo "  STAGES (of gpu-check; tools/benchmarks/gpu_check.sh lists them)."

setup: $(HAVE_CHECKOUT) operators ## make the environment, or bring it up to date (2 to 4 minutes the first time)
	@$(call say,The environment $(VENV) is ready: $(VENV_PY))
	@cd "$(CURDIR)" && $(VENV_PY) -m token_pruning_ops.info

# Libraries stand in the checkout, so whoever calls make gets those of its own sources; up to date, this takes no time. What
# cannot be compiled is said and left to plain PyTorch: MSDA_BUILD=off, cpu or cuda asks for something else.
operators: | $(HAVE_DEPS)
	@$(VENV_PY) ops/build.py

# Not ".": what a user writes into the checkout, such as a folder of results with its config, is not judged.
SOURCES := $(wildcard *.py) token_pruning ops $(wildcard *_custom) configs tools tests
LAYERS := tests/test_import_layers.py

lint: $(READY) ## check style, layout, types and which package imports which
	@$(call need,ruff mypy pytest)
	@$(PY) -m ruff check $(SOURCES) && $(PY) -m ruff format --check -q $(SOURCES) && $(PY) -m mypy
	@$(RUN) -m pytest --noconftest -q $(LAYERS)

# What lint has run is not run again. Side by side with one thread each, which is faster than one after the other with all threads.
test: lint ## check the style, then run all tests
	@$(call need,pytest xdist)
	@OMP_NUM_THREADS="$${OMP_NUM_THREADS:-1}" $(RUN) -m pytest tests --ignore $(LAYERS) -n auto --maxprocesses 8 --dist worksteal $(ARGS)

# Broken files make libraries talk, which only a fault makes worth reading; tests/ holds the package fuzz.
fuzz: $(READY) ## feed sound and broken input to all that reads any (CASES, SEED, KIND, NUMBER); work_dirs/fuzz.json
	@PYTHONPATH="$(CURDIR)/tests$${PYTHONPATH:+:$$PYTHONPATH}"; export PYTHONPATH; OPENCV_LOG_LEVEL=OFF \
		OMP_NUM_THREADS="$${OMP_NUM_THREADS:-1}" $(RUN) -m fuzz.run $(if $(CASES),--cases $(CASES)) \
		$(if $(SEED),--seed $(SEED)) $(if $(KIND),--kind "$(KIND)") $(if $(NUMBER),--number $(NUMBER)) $(ARGS)

demo: $(READY) ## prune a detector, measure what it gains, write work_dirs/demo/report.html (10 minutes)
	@$(TIMED) tools/quickstart/demo.py $(ARGS)

# Docstrings are read, not imported. REPO_URL names the repository that links to its files lead to (mkdocs.yml). Without
# -q, with which --strict counts no warnings.
docs: $(if $(filter command,$(firstword $(origin PY))),,$(HAVE_DOCS)) ## build the documentation into site/ and check its links
	@$(call need,mkdocs material mkdocstrings,docs)
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict && $(PY) tools/docs/check_site.py site

gpu-check: $(READY) ## on a machine with a GPU: run the tests marked cuda, measure operators and models, by STAGES
	@$(PY) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' \
		|| $(call die,gpu-check needs a CUDA device and torch sees none.)
	@OMP_WAIT_POLICY="$${OMP_WAIT_POLICY:-PASSIVE}" PYTHON="$(PY)" sh tools/benchmarks/gpu_check.sh $(STAGES)

sanitize: $(READY) ## run the compiled CPU operator under AddressSanitizer and UBSan on random calls (5 minutes)
	@$(RUN) tools/reliability/sanitize.py $(ARGS)

# The tools that examine the environment stay out of it.
audit: $(READY) $(HAVE_AUDIT) ## list known vulnerabilities, licences and a bill of materials of the dependencies
	@mkdir -p work_dirs && $(RUN) tools/reliability/supply.py --audit-python $(AUDIT_VENV)/bin/python --sbom work_dirs/sbom.json $(ARGS)

clean: ## delete caches and build leftovers; results, data and weights stay
	@rm -rf build dist site *.egg-info ops/build .pytest_cache .ruff_cache .mypy_cache
	@find token_pruning ops *_custom tools tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(HAVE_VENV):
	@command -v "$(PYTHON)" >/dev/null \
		|| $(call die,$(PYTHON) was not found; on Debian: apt-get install python3 python3-venv python3-dev)
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| $(call die,Python 3.10 or newer is needed and $(PYTHON) is older; name a newer one: make PYTHON=python3.11)
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null \
		|| $(call die,$(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv)
	@$(call say,[1/4] a virtual environment in $(VENV) ...)
	@"$(PYTHON)" -m venv "$(VENV)" || $(call die,no virtual environment could be made in $(VENV).)
	@touch $@

$(HAVE_TORCH): | $(HAVE_VENV)
	@$(call say,[2/4] $(TORCH): about 2.5 minutes and 4.7 GB ...)
	@$(PIP) $(BUILD_TOOLS:%='%') $(TORCH) || $(call die,torch could not be installed; pip says why above.)
	@$(call stamp,torch)

# onedl-mmcv is published as source. A ready wheel is tried first. Without one, pip's isolated build, which has no torch,
# makes a package without operators in seconds: mmcv_custom.compat.mmcv_ext has what this project needs of them.
# MMCV=compiled compiles them. --no-deps: the dependencies come with their pins in step 4. --force-reinstall and
# --no-cache-dir: the operators fit one torch only, which neither their version nor pip's cache of built wheels knows. -g0:
# without debug symbols it takes half the time. PATH: torch looks for the environment's ninja there and compiles on one
# core without it.
$(HAVE_MMCV): | $(HAVE_TORCH)
	@$(call say,[3/4] $(MMCV_PIN): a ready wheel from PIP_FIND_LINKS if there is one for this Python ...)
	@install="$(PIP) --no-deps --force-reinstall --no-cache-dir $(MMCV_PIN)"; \
	$$install --only-binary onedl-mmcv 2>/dev/null && exit 0; \
	if [ "$(MMCV)" != compiled ]; then \
		$(call say,      There is none: it is installed without compiled operators; make setup MMCV=compiled compiles them.); \
		$$install || $(call die,onedl-mmcv could not be installed; pip says why above.); \
		exit 0; \
	fi; \
	command -v "$${CXX:-c++}" >/dev/null \
		|| $(call die,a C++ compiler is needed to compile onedl-mmcv; on Debian: apt-get install g++); \
	$(VENV_PY) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
		|| $(call die,the Python headers are needed to compile onedl-mmcv; on Debian: apt-get install python3-dev); \
	if $(VENV_PY) -c 'import sys, torch; from torch.utils.cpp_extension import CUDA_HOME; sys.exit(not torch.cuda.is_available() or CUDA_HOME is not None)' 2>/dev/null; then \
		$(call say,      There is a GPU but no CUDA toolkit (nvcc): MMCV gets operators for the CPU only until one is installed and $(VENV) made anew.); \
		export CUDA_VISIBLE_DEVICES=; \
	fi; \
	$(call say,      There is none: compiling the operators (about 5 minutes on 2 cores) ...); \
	PATH="$(abspath $(VENV))/bin:$$PATH" CFLAGS="$${CFLAGS--g0}" MAX_JOBS="$${MAX_JOBS:-$$(nproc)}" MMCV_WITH_OPS=1 \
		$$install --no-build-isolation || $(call die,onedl-mmcv could not be compiled; the compiler says why above.)
	@$(call stamp,mmcv)

# The headless OpenCV goes on last and by force: pip may have unpacked opencv-python over it (both own the folder cv2).
$(HAVE_DEPS): | $(HAVE_MMCV)
	@$(call say,[4/4] everything else in requirements.txt ...)
	@$(PIP) --no-build-isolation -r requirements.txt || $(call die,the requirements could not be installed; pip says why above.)
	@$(PIP) --no-deps --force-reinstall $(HEADLESS) || $(call die,$(HEADLESS) could not be installed; pip says why above.)
	@$(VENV_PY) -c 'import mmcv_custom, cv2, mmcv.ops' || $(call die,cv2 or mmcv.ops does not load; delete $(VENV) and run make setup again.)
	@$(call stamp,deps)

$(HAVE_CHECKOUT): | $(HAVE_DEPS)
	@$(call say,Installing this checkout into $(VENV) ...)
	@install="$(PIP) --no-build-isolation -e"; export MSDA_BUILD=off; \
	$$install ".[dev,export]" 2>/dev/null || { \
		$(call say,      ONNX and OpenVINO could not be installed and are left out; $(VENV_PY) -m pip install -e '.[export]' says why.); \
		$$install ".[dev]"; } || $(call die,this checkout could not be installed; pip says why above.)
	@$(call stamp,checkout)

$(HAVE_AUDIT):
	@$(call say,The tools that examine the dependencies in $(AUDIT_VENV) ...)
	@"$(PYTHON)" -m venv "$(AUDIT_VENV)" && $(AUDIT_VENV)/bin/python -m pip install -qq --disable-pip-version-check $(AUDIT) \
		|| $(call die,they could not be installed; pip says why above.)
	@rm -f $(AUDIT_VENV)/.setup-*; touch $@

$(HAVE_DOCS): | $(HAVE_CHECKOUT)
	@$(call say,The tools that build the documentation ...)
	@MSDA_BUILD=off $(PIP) --no-build-isolation -e ".[docs]" || $(call die,mkdocs could not be installed (it needs Python 3.11 or newer); pip says why above.)
	@$(call stamp,docs)
