# What dev.py does not: the checks beside the tests. `make check` sets up what it needs.
BIN = .venv/bin

.PHONY: demo test setup check lint types layers docs terminal wheel fuzz soak

demo test setup:
	python3 dev.py $@

check: setup lint types layers docs

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

layers:
	$(BIN)/lint-imports --no-cache

# The code in README and docs/.
docs:
	$(BIN)/python scripts/check_docs.py

# The picture of a session in the docs.
terminal:
	$(BIN)/python scripts/terminal_picture.py

wheel: setup
	$(BIN)/python -m uv build --wheel

# Broken requests by the ten thousand, and half an hour of load: docs/serving-safety.md.
fuzz:
	HUAYU_FUZZ=20000 $(BIN)/python -m pytest -q tests/serving/test_fuzz.py

MINUTES ?= 30
soak:
	$(BIN)/python scripts/soak.py --minutes $(MINUTES)
