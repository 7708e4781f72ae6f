"""Codecs of sections."""
