"""One token through all layers."""
