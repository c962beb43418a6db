# What is run often. `bash .ci/run` is what CI runs; everything else is in CONTRIBUTING.md.

SEED = 1
SECONDS = 600

.PHONY: test quick lint soak

test: ## all tests
	python -m pytest -n 2 --dist loadfile

quick: ## those that take no longer than a second or two
	python -m pytest -m 'not slow'

lint:
	ruff check .
	ruff format --check .
	mypy

soak: ## ten minutes of faults in each home, and the verdict
	python -m tests.chaos --seconds $(SECONDS) --seed $(SEED)
