"""Elementwise and row-wise parts of a layer."""
