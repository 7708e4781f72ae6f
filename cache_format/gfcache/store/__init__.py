"""The library's folder of caches and its index."""
