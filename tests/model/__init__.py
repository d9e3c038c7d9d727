"""The engine as a small machine whose every run is looked at: `python -m tests.model`, and docs/model.md."""
