"""Layers on a GPU through the Triton kernels."""
