"""What of a document is read for a question."""
