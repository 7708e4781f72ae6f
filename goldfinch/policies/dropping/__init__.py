"""Dropping: which rows of a document a smaller cache keeps. One policy a file; no question is known when it chooses."""
