"""`python -m gateway.cli` is `obol`."""

from gateway.cli import main

main()
