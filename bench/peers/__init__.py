"""gf beside other programs."""
