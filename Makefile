# Everything here does its own set-up: Python >= 3.11, make and a package registry are all it needs.
#   make demo     the whole road on this machine, no weights, no internet
#   make method   the two trainings on procedural people, and what they come to
#   make test     the tests
#   make check    format, lint, types, import layers, docs
#   make nightly  do Energon and litData read our shards? Each is installed into an environment of its own
PYTHON ?= python3
VENV   ?= .venv
# Without a GPU the CPU build is enough; the pin keeps pip from choosing a build with gigabytes of CUDA where a
# smaller one of this version is at hand. Override: make TORCH=torch
TORCH  ?= torch==2.13.0
# Where the libraries that bolid is compared with live, each in an environment of its own.
PEERS  ?= $(HOME)/.cache/bolid-peers
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo method test nightly check format docs wheel clean help

help:
	@sed -n '1,6s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# What ultralytics asks for, less torchvision: a build of it for torch without CUDA is not on every index, and one that
# does not fit breaks diffusers too. models/pose.py does without it. With a GPU: pip install -e '.[pose]'.
POSE_NEEDS := matplotlib nvidia-ml-py opencv-python polars psutil pyyaml requests ultralytics-platform ultralytics-thop

# Torch first: what the extras ask for is then already there.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("bolid needs Python 3.11 or newer, not %d.%d; try: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$(TORCH)"
	$(PIP) -e '.[train,face,ray,dev]' $(POSE_NEEDS)
	$(PIP) --no-deps ultralytics
	@touch $@

demo: $(STAMP)
	$(BIN)/bolid demo --keep demo-output

method: $(STAMP)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m bolid.demo.method --out method-output

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

nightly: $(STAMP)
	$(BIN)/python benchmarks/shards_readers.py --peers $(PEERS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	VENV=$(abspath $(VENV)) sh tests/types.sh
	$(BIN)/lint-imports
	$(BIN)/python docs/cli_reference.py --check

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)
	$(BIN)/python docs/cli_reference.py

wheel: $(STAMP)
	$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf $(VENV) build dist demo-output method-output *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
