"""What makes a new provider: `python -m kit NAME` writes an adapter's skeleton, registered and unfinished."""
