"""Training a pointer, and the layers above prefill, as documents are read."""
