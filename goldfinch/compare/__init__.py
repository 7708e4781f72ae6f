"""Comparing architectures and methods on equal terms."""
