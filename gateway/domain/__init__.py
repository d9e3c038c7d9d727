"""Pure rules of payment: no I/O, no clock, nothing but the standard library."""
