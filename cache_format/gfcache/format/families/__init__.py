"""Families of models: which sections their caches hold, described once each."""
