"""Keys and values from token ids and compressed keys."""
