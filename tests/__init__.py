"""The test suite; `python -m pytest` runs all of it."""
