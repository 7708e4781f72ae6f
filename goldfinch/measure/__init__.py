"""Measurements: conditions of a record, timing of prefill and ask."""
