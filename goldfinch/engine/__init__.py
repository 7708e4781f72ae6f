"""Prefill a document, ask its cache: one document, one session, many questions at once."""
