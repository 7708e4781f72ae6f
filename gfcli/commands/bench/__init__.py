"""gf bench: of this machine, and of methods."""
