"""What a payment costs, and against which floor: `python -m bench`, or `make bench`."""
