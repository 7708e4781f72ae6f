"""Training text and made-up documents with questions."""
