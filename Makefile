# make          everything into .venv; .venv/bin/modelyard is the command
# make demo     an example project from documents to served answers   (DOCS=folder: your own documents)
# make test     lint, types, layers, tests
# make proofs   whole runs that are killed, damaged, of every format; 500 requests of each kind through promote, canary, rollback and kills;
#               generated requests for all of /openapi.json; the commands of the README and the tutorial
# make bench    the figures of the README, one JSON line each
# make bench-retrieval   quality, cost beside other libraries, scale, snapshots of retrieval   (benchmarks/peers/install.sh first)
# make bench-serving     figures of serving beside other servers, and 3,000 requests through every fault   (benchmarks/peers/serving.sh first)
# make faults   10,000 requests of each kind through deploy, canary, rollback and kills; disks, models, ledgers that fail   (REQUESTS=10000)
# make fuzz     damage made at random, against the reading of documents   (SECONDS=60 SEED=0)
# make clients  other versions of the clients that the gateway is tested with, for `make test` to find
# make lock     resolve the dependencies anew into requirements.lock

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DOCS ?=
SECONDS ?= 60
SEED ?= 0
REQUESTS ?= 10000
REALDATA ?= ../shared/data

.PHONY: all demo test lint proofs browser realdata fuzz bench bench-retrieval bench-serving faults clients lock clean

all: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml requirements.lock hatch_build.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "modelyard needs Python 3.11 or newer: make PYTHON=python3.12"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --no-deps -e .
	@touch $@

demo: all
	@$(BIN)/python examples/demo.py $(if $(DOCS),--documents "$(DOCS)")

test: all lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not browser and not realdata and not proof and not slow"

proofs: all
	$(BIN)/python -m pytest -n 2 --dist worksteal -m proof

lint: all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

browser: all
	$(BIN)/python -m pytest -m browser

realdata: all
	MODELYARD_REALDATA="$(REALDATA)" $(BIN)/python -m pytest -m realdata

bench: all
	$(BIN)/python benchmarks/run.py

bench-retrieval: all
	$(BIN)/python benchmarks/retrieval_all.py "$(REALDATA)/filings"

bench-serving: all
	$(BIN)/python benchmarks/serving.py

faults: all
	$(BIN)/python -m pytest tests/faults/test_faults.py tests/serving/test_soak.py
	$(BIN)/python benchmarks/steady.py --requests $(REQUESTS)

fuzz: all
	$(BIN)/python -m tests.chatbot.fuzz --seconds $(SECONDS) --seed $(SEED)

clients: all
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .clients/openai-2
	$(BIN)/uv pip install --quiet --python .clients/openai-2/bin/python "openai>=2,<3" langchain-openai

lock:
	$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --extra chroma --extra otlp --group dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) demo build dist
