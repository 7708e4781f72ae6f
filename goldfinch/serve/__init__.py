"""Answers over HTTP, in the form of the OpenAI API: the documents are caches (`gf serve`)."""
