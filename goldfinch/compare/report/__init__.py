"""The report of a comparison: one page that needs nothing else, tables to compute with, a table to read."""
