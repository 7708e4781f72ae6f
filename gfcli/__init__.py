"""The command line: gf. One file per command; heavy imports stand inside the functions."""
