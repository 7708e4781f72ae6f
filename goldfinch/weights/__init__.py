"""Model directories: read, checked, fingerprinted, written."""
