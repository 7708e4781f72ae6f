"""What models learn and find."""
