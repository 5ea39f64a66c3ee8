# Tasks by name. `make demo` and `make test` need Python 3.11+, make and a C++ compiler; the first run of either makes .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What .venv must hold; constraints.txt pins one set of parts that is known to work together.
STAMP := $(VENV)/.ready

.PHONY: setup demo test lint types test-quick test-all test-integrations torch-versions mutate bench figures readme-tables docs release-check sanitize sanitize-threads clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt $(shell find csrc -type f)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "throughtime needs Python 3.11 or newer; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/throughtime demo

test: lint types test-quick

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/pyright --threads

test-quick: setup
	$(BIN)/python -m pytest -q -n auto

test-all: setup
	HYPOTHESIS_PROFILE=search $(BIN)/python -m pytest -q -n auto -m ''

# The doors for other packages, against the packages themselves, in an environment over this one that holds torch at the same version.
# -W ignore: these packages warn.
DOORS := build/integrations
test-integrations: setup
	$(PYTHON) -m venv --without-pip $(DOORS)
	echo "import site; site.addsitedir('$(SITE)')" > $$($(DOORS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth
	$(BIN)/python -c 'import torch; print("torch==" + torch.__version__.split("+")[0])' > $(DOORS)/torch.txt
	$(BIN)/python -m pip --python $(DOORS)/bin/python install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --constraint $(DOORS)/torch.txt sb3-contrib torchrl lightning opacus
	$(DOORS)/bin/python -m pytest -q -W ignore tests/integrations src/throughtime/integrations

# What torch's world does to an accelerated model, with the oldest torch that pyproject.toml permits, the one of constraints.txt, and the
# newest. Each may come with gigabytes of libraries, into build/; make torch-versions TORCH=torch==2.11.0 tries one.
TORCH ?= 'torch==2.9.*' $(shell grep '^torch==' constraints.txt) torch
torch-versions:
	mkdir -p build
	grep -v '^torch==' constraints.txt > build/constraints.txt
	for torch in $(TORCH); do \
	  folder=build/$$(echo "$$torch" | tr -dc 'a-z0-9.') && $(PYTHON) -m venv $$folder && \
	  $$folder/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --constraint build/constraints.txt "$$torch" '.[dev]' && \
	  $$folder/bin/python tests/contracts/torch_world.py || exit 1; \
	done

# Which one-line edits of the source go unnoticed. Takes hours; make mutate EDITS='--only gradients' is a part of it.
mutate: setup
	$(BIN)/python tools/mutate.py $(EDITS)

bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/layers.py
	$(BIN)/python benchmarks/profile_step.py

# The pictures of the documents and what the examples print, measured anew. Fetches the data set of sunspots.
figures: setup
	$(BIN)/python tools/figures.py

# The tables of speed in README.md and docs, from benchmarks/results.
readme-tables:
	$(PYTHON) tools/tables.py

# The site, in build/site, by an environment of its own: it reads the source and needs neither torch nor a compiler. The first run installs
# MkDocs; after that nothing is loaded from a network, to build it or to read it. Warnings are errors.
SITE_ENVIRONMENT := build/site-environment
$(SITE_ENVIRONMENT)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(SITE_ENVIRONMENT)
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])' \
	  | xargs $(SITE_ENVIRONMENT)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
	touch $@

docs: $(SITE_ENVIRONMENT)/.ready
	NO_MKDOCS_2_WARNING=1 $(SITE_ENVIRONMENT)/bin/mkdocs build

# The kernels' tests over an extension built with the address and undefined-behaviour sanitizers. -S keeps the editable install out.
SITE = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
sanitize: setup
	SKBUILD_CMAKE_BUILD_TYPE=None SKBUILD_CMAKE_DEFINE=THROUGHTIME_SANITIZE=ON SKBUILD_BUILD_DIR=build/sanitize \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target build/sanitized .
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
	  PYTHONPATH=build/sanitized:$(SITE) $(BIN)/python -S -m pytest -q tests/kernels

# A call's threads under ThreadSanitizer, which finds what another machine's memory order would show.
sanitize-threads:
	mkdir -p build
	$(CXX) -std=c++20 -O1 -g -Wall -Wextra -fsanitize=thread csrc/parallel.cpp tests/kernels/parallel.cpp -o build/parallel -pthread -ldl
	build/parallel

# A wheel and an sdist as a release has them, each installed into an empty environment: the wheel with its kernels, the sdist where no
# compiler can be found. Needs git, a compiler and the package index.
RELEASE := build/release
INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
release-check:
	rm -rf $(RELEASE) && mkdir -p $(RELEASE)
	$(PYTHON) -m venv $(RELEASE)/build && $(RELEASE)/build/bin/python $(INSTALL) build
	$(RELEASE)/build/bin/python -m build --outdir $(RELEASE)/dist
	$(PYTHON) -m venv $(RELEASE)/packed && $(RELEASE)/packed/bin/python $(INSTALL) $(RELEASE)/dist/*.whl
	$(RELEASE)/packed/bin/python tools/release_check.py packed
	$(PYTHON) -m venv $(RELEASE)/plain && env -u CC -u CXX PATH=$(abspath $(RELEASE)/plain/bin) $(RELEASE)/plain/bin/python $(INSTALL) $(RELEASE)/dist/*.tar.gz
	$(RELEASE)/plain/bin/python tools/release_check.py plain

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
