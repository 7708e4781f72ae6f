"""On one GPU: kernels, prefill, answers at depth."""
