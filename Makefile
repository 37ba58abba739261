# make demo    train, evaluate and recommend on the bundled data
# make test    the test suite
# make lint    ruff and mypy
# make test-browser, test-torchserve, test-soak    the explorer page in Chromium, AWS's serving stack, five minutes of load
# make test-horovod, test-torchrec, test-spark    processes under Horovod, sharded tables, preparation on Spark: in environments of their own
# make image   the container image ncf:local (IMAGE=name:tag), for training and serving; EXTRAS=mlflow: jobs record themselves
# make image-horovod    the same with Horovod and Open MPI, ncf-horovod:local (docs/horovod.md)
# make test-container    that image in real containers: alone, in local mode, behind the SageMaker emulator
# make notebooks    execute the notebooks (CHECK=--check writes nothing)
# make bench   measure; prints tables and writes benchmarks/results/
# make venv    what the others do first

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
IMAGE ?= ncf:local

.PHONY: venv demo test test-browser test-torchserve test-horovod test-torchrec test-spark test-soak image image-horovod test-container notebooks lint bench clean

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ncf needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: venv
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo

test: venv
	$(BIN)/python -m pytest -n auto --dist loadfile

test-browser: venv
	NCF_TEST_BROWSER=1 $(BIN)/python -m pytest -m browser tests/browser || \
	NCF_TEST_BROWSER=1 $(BIN)/python -m pytest -m browser --last-failed --last-failed-no-failures none tests/browser  # once more: a browser may fail for reasons of its own

test-torchserve: venv
	scripts/install-torchserve .venv-torchserve
	NCF_TEST_TORCHSERVE=$(CURDIR)/.venv-torchserve $(BIN)/python -m pytest -m torchserve tests/torchserve

test-horovod: venv
	scripts/install-horovod .venv-horovod mpi
	NCF_TEST_HOROVOD=$(CURDIR)/.venv-horovod $(BIN)/python -m pytest -m horovod tests/horovod

test-torchrec: venv
	scripts/install-torchrec .venv-torchrec
	NCF_TEST_TORCHREC=$(CURDIR)/.venv-torchrec $(BIN)/python -m pytest -m torchrec tests/torchrec

test-spark: venv
	scripts/install-spark .venv-spark
	NCF_TEST_SPARK=$(CURDIR)/.venv-spark $(BIN)/python -m pytest -m spark tests/data/out_of_core/test_spark.py

test-soak: venv
	NCF_TEST_SOAK=300 $(BIN)/python -m pytest -s -m soak tests/serving/test_soak.py

image:
	scripts/docker-engine start
	scripts/image $(IMAGE) $(if $(EXTRAS),--build-arg "EXTRAS=$(EXTRAS)")

image-horovod:
	scripts/docker-engine start
	scripts/image ncf-horovod:local --build-arg HOROVOD=1

test-container: venv image image-horovod
	NCF_TEST_CONTAINER=1 NCF_TEST_IMAGE=$(IMAGE) NCF_TEST_HOROVOD_IMAGE=ncf-horovod:local $(BIN)/python -m pytest -m container tests/container tests/hosted

notebooks: venv image
	$(BIN)/python scripts/notebooks $(CHECK)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: venv
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/fold_in.py
	$(BIN)/python benchmarks/retrieval.py
	scripts/install-torchserve .venv-torchserve
	$(BIN)/python benchmarks/serving.py

clean:
	rm -rf $(VENV) .venv-torchserve .venv-horovod .venv-torchrec .venv-spark build dist .pytest_cache .mypy_cache .ruff_cache
