"""Training a pointer as documents are read: documents with questions, examples of them, loss, loop."""
