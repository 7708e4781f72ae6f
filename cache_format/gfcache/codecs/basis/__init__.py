"""Keys and values in a basis of the model."""
