"""What methods are compared on: documents of a length, questions to each, and a score between 0 and 1."""
