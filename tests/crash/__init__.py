"""Every kill point, command and interruption, in one process: what is left behind must come right by itself."""
