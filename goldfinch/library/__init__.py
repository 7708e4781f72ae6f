"""The library: a document in, its cache out, computed only when needed."""
