"""Faster executors of the same layers."""
