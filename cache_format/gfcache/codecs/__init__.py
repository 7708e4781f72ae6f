"""Codecs: how the bytes of a section are stored."""
