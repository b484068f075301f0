# The tiers, named once. Each works from a fresh clone with Python 3.11 or newer, make and git; chaos and soak need
# PostgreSQL's programs, too (and Redis for EXECUTOR=celery), and test-airflow a Chromium for its look into the browser.
#
#   make setup          development environment in .venv (newest Airflow)
#   make check          ruff, mypy --strict, import contracts
#   make test           unit tests, no scheduler, on the newest and on the lowest Airflow
#   make test-newest    the newest alone: ARGS="-k name"; and make test-lowest
#   make coverage       which lines the unit tests run
#   make simulate       schedules of the exactly-once model, with live progress: N=, SEED=
#   make removals       takes out the lines behind each promise of the README, one by one: its tests must fail
#   make test-airflow   scenarios on a real scheduler and triggerer; SHORT=1 with fewer dates in an outage
#   make test-loops     task groups that are looped over, on the newest pre-release of Airflow 3.4
#   make matrix         the wheel on every supported Airflow: imports, form, tests, example DAGs, clears; a table at the
#                       end. SHORT=1 clears on the lowest and the newest only
#   make package        wheel and sdist: reproducible, complete, checked, and the emulator from the installed wheel
#   make chaos          a backfill on PostgreSQL while its parts are killed: EXECUTOR=celery, SEED=, SHORT=1
#   make soak           2,000 deferred runs come and go in one triggerer for 20 minutes: RUNS=, MINUTES=
#   make demo           the example DAGs on a real Airflow against the emulator, with a table at the end
#   make demo-ui        the same, left running for a browser
#   make fix            lets ruff correct and format
#   make bench          CPU, memory and delay of waiting triggers beside a bare loop and two peers; SHORT=1 for a taste
#   make constraints    resolves constraints*.txt anew (maintainers); make matrix-record those of the matrix
#   make clean          removes what the others made
#
#   PYTHON=python3.12 make setup   chooses the interpreter

PYTHON ?= python3
ARGS   ?=

NEWEST  := .venv
LOWEST  := .venv-2.11
LOOPS   := .venv-3.4
MATRIX  := .venv-matrix
PEERS   := .venv-bench
PACKAGE := .venv-package
CHAOS   := .venv-chaos
BIN     := $(NEWEST)/bin
UV      := $(BIN)/uv
# Airflow must never read, or write to, the configuration of the person who runs this.
CLEAN   := env $(patsubst %,-u %,PYTHONPATH VIRTUAL_ENV $(filter AIRFLOW%,$(.VARIABLES))) AIRFLOW_HOME="$(CURDIR)/.airflow"
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# $(call timed,name,command): runs the command, says how long it took, keeps its exit status.
timed = @begin=$$(date +%s); ( $(2) ); status=$$?; \
	echo "$(1): $$( [ $$status = 0 ] && echo ok || echo FAILED ) after $$(( $$(date +%s) - begin )) s"; exit $$status

.DEFAULT_GOAL := help
.PHONY: help setup setup-lowest check fix test test-newest test-lowest test-airflow test-loops chaos soak coverage removals simulate \
	demo demo-ui matrix matrix-record package bench constraints clean

help:
	@sed -n 's/^#   //p' Makefile

# --------------------------------------------------------------------------------------------------- environments

setup: $(NEWEST)/.installed
setup-lowest: $(LOWEST)/.installed

$(UV): | constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("make: needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; choose another with PYTHON=...")'
	@echo "setup: $(NEWEST) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(NEWEST)
	@$(BIN)/python -m pip install -q -c constraints.txt uv

$(NEWEST)/.installed: pyproject.toml constraints.txt $(UV)
	$(call timed,setup,$(UV) pip install -q --python $(BIN)/python -c constraints.txt -b constraints.txt -e . --group dev)
	@touch $@

# The lowest Airflow knows no Python above 3.12: take the chosen one if it fits, else any that does.
$(LOWEST)/.installed: pyproject.toml constraints-2.11.txt $(UV)
	@[ -x $(LOWEST)/bin/python ] || $(UV) venv -q --no-project \
		--python "$$($(PYTHON) -c 'import sys; print(sys.executable if sys.version_info < (3, 13) else "<3.13,>=3.11")')" $(LOWEST)
	$(call timed,setup-lowest,$(UV) pip install -q --python $(LOWEST)/bin/python -c constraints-2.11.txt -e . --group test)
	@touch $@

# A pre-release moves, so nothing constrains it: whoever wants a newer one takes this environment away.
$(LOOPS)/.installed: pyproject.toml $(UV)
	@[ -x $(LOOPS)/bin/python ] || $(UV) venv -q --no-project --python $(BIN)/python $(LOOPS)
	$(call timed,setup (Airflow 3.4),$(UV) pip install -q --python $(LOOPS)/bin/python --prerelease=allow \
		'apache-airflow>=3.4.0b1' -e . --group test)
	@touch $@

# ---------------------------------------------------------------------------------------------------------- tiers

check: setup
	$(call timed,check,failed=0; \
		$(BIN)/ruff check --quiet --output-format concise . || failed=1; \
		$(BIN)/ruff format --check --output-format concise . || failed=1; \
		$(BIN)/mypy --no-error-summary || failed=1; \
		contracts=$$($(BIN)/lint-imports --no-logo) || { echo "$$contracts"; failed=1; }; \
		exit $$failed)

fix: setup
	@$(BIN)/ruff check --fix --exit-zero .
	@$(BIN)/ruff format .

test: test-newest test-lowest

test-newest: setup
	$(call timed,test (newest Airflow),$(CLEAN)/newest $(BIN)/python -m pytest -q -n 3 $(ARGS))

test-lowest: setup-lowest
	$(call timed,test (Airflow 2.11),$(CLEAN)/lowest $(LOWEST)/bin/python -m pytest -q -n 3 $(ARGS))

coverage: setup
	$(call timed,coverage,$(CLEAN)/newest $(BIN)/coverage run -m pytest -q $(ARGS) && $(BIN)/coverage report)

removals: setup
	$(call timed,removals,$(CLEAN)/removals $(BIN)/python -m tests.removals $(ARGS))

simulate: N ?= 100000
simulate: SEED ?= 0
simulate: setup
	@$(BIN)/python -m tests.simulate $(N) $(SEED)

test-airflow: setup
	$(call timed,test-airflow,$(CLEAN)/scenarios SHORT=$(SHORT) $(BIN)/python -m pytest -q -m airflow --timeout=1800 $(ARGS) tests/airflow)

test-loops: $(LOOPS)/.installed
	$(call timed,test-loops,$(CLEAN)/loops $(LOOPS)/bin/python -m pytest -q -m airflow -k loop --timeout=1800 $(ARGS) tests/airflow)

matrix: setup
	$(call timed,matrix,$(BIN)/python -m tests.matrix $(if $(SHORT),--short) $(ARGS))

$(PACKAGE)/.installed: pyproject.toml constraints.txt $(UV)
	@[ -x $(PACKAGE)/bin/python ] || $(UV) venv -q --no-project --python $(BIN)/python $(PACKAGE)
	@$(UV) pip install -q --python $(PACKAGE)/bin/python -c constraints.txt --group package
	@touch $@

package: setup $(PACKAGE)/.installed
	$(call timed,package,$(CLEAN)/package $(BIN)/python -m pytest -q -m package $(ARGS) tests/test_packaging.py)

# A distributed Airflow: the newest one with its drivers for PostgreSQL, and with Celery where that is asked for.
$(CHAOS)/.%: pyproject.toml constraints.txt $(UV)
	@[ -x $(CHAOS)/bin/python ] || $(UV) venv -q --no-project --python $(BIN)/python $(CHAOS)
	@$(UV) pip install -q --python $(CHAOS)/bin/python -c constraints.txt -e . $(patsubst %,--group %,$(subst +, ,$*))
	@touch $@

# The parts of the demo are parts of this, too.
chaos: EXECUTOR ?= local
chaos: SEED ?= 0
chaos: $(CHAOS)/.chaos$(if $(filter celery,$(EXECUTOR)),+celery)
	$(call timed,chaos,PYTHONPATH=.:tests/demo $(CHAOS)/bin/python -m tests.chaos \
		--executor $(EXECUTOR) --seed $(SEED) $(if $(SHORT),--short) $(ARGS))

soak: RUNS ?= 2000
soak: MINUTES ?= 20
soak: $(CHAOS)/.chaos
	$(call timed,soak,PYTHONPATH=.:tests/demo $(CHAOS)/bin/python -m tests.chaos.soak --runs $(RUNS) --minutes $(MINUTES))

# The table of prices that the demo's job reads comes with the package `arch`: installed for its data, not its code.
$(NEWEST)/.prices: $(NEWEST)/.installed
	@$(UV) pip install -q --python $(BIN)/python --no-deps -c constraints.txt --group demo
	@touch $@

demo: $(NEWEST)/.prices
	$(call timed,demo,$(BIN)/python tests/demo)

demo-ui: $(NEWEST)/.prices
	@$(BIN)/python tests/demo --ui

# The peers live in an environment of the bench's own: they bring a hundred packages nobody else here needs.
$(PEERS)/.installed: pyproject.toml constraints-bench.txt $(UV)
	@[ -x $(PEERS)/bin/python ] || $(UV) venv -q --no-project --python $(PYTHON) $(PEERS)
	$(call timed,bench environment,$(UV) pip install -q --python $(PEERS)/bin/python -c constraints-bench.txt -e . --group bench)
	@touch $@

bench: $(PEERS)/.installed
	$(call timed,bench,$(CLEAN)/bench SHORT=$(SHORT) $(PEERS)/bin/python -m tests.bench build/bench)

# ----------------------------------------------------------------------------------------------------- maintenance

CONSTRAIN = $(UV) pip compile -q --python $(BIN)/python --no-sources --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links

# Newest of everything for the newest Airflow; for the lowest, the lower bounds of pyproject.toml amid the packages of that
# Airflow's time, with today's test tools. `arch` is installed for its data alone, without its dependencies.
constraints: $(UV)
	$(CONSTRAIN) --upgrade pyproject.toml --group dev -o $(NEWEST)/newest.txt
	$(CONSTRAIN) --upgrade --no-deps --group demo -o $(NEWEST)/demo.txt
	$(CONSTRAIN) --upgrade -c $(NEWEST)/newest.txt --group package -o $(NEWEST)/package.txt
	$(CONSTRAIN) --upgrade -c $(NEWEST)/newest.txt pyproject.toml --group chaos --group celery -o $(NEWEST)/chaos.txt
	sort -fu $(NEWEST)/newest.txt $(NEWEST)/demo.txt $(NEWEST)/package.txt $(NEWEST)/chaos.txt > constraints.txt
	$(CONSTRAIN) --upgrade --resolution lowest-direct --exclude-newer 2025-06-15 pyproject.toml -o $(NEWEST)/lowest.txt
	$(CONSTRAIN) --upgrade -c $(NEWEST)/lowest.txt pyproject.toml --group test -o constraints-2.11.txt

# The versions that each Airflow of the matrix was published with.
matrix-record: setup
	@$(BIN)/python -m tests.matrix --record $(ARGS)

clean:
	rm -rf $(NEWEST) $(LOWEST) $(LOOPS) $(MATRIX) $(PACKAGE) $(CHAOS) $(PEERS) .airflow .coverage* htmlcov build dist \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache \
		example_dags/workspace/.runs example_dags/workspace/*/*/data example_dags/workspace/*/*/results
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
