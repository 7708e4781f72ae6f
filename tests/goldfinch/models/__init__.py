"""Tests of goldfinch/models."""
