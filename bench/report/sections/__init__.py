"""The sections of docs/benchmarks.md, each from its records."""
