"""What a prefill leaves, in memory and in a .gfc file."""
