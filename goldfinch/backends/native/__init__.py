"""Layers on the CPU through the C kernels."""
