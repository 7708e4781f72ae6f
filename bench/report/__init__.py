"""Pages and pictures made from the records."""
