"""Models of others, run by the transformers library (extra `hf`): taken in, checked, loaded."""
