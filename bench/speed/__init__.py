"""How fast gf is on one machine."""
