"""`python -m resonate.cli`: the same as the command `resonate`."""

from resonate.cli import main

main()
