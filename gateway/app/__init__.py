"""Use cases over one engine: a module for each noun. Knows the ports of the domain, no database and no wire."""
