"""What is broken on purpose, one kind of fault a module, against whole gateways; `make torture` breaks all at once."""
