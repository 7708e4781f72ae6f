"""Models of others at work: documents pre-filled, kept in files, asked."""
