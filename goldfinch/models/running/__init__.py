"""What running a model takes, whichever library holds its numbers: torch, or numpy alone."""
