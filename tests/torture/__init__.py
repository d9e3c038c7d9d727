"""Torture: real processes under load, killed by the thousand, and the books compared with the provider's afterwards.

    python -m tests.torture KILLS STORE SEED

docs/torture.md says what it does, what it has found, and which guard is held by what.
"""
