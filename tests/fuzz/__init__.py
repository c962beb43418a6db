"""Input that nobody would send by mistake, for everything that reads what others have written.

`targets` says what is read and what must hold; the same targets run for a moment in the test
suite (`test_fuzz.py`), for as long as you like by `python -m tests.fuzz`, and led by coverage
by `python -m tests.fuzz.guided` where `atheris` is installed.
"""
