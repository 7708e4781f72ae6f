"""Tests of gf bench."""
