"""Keys and values that a smaller cache of a model of others keeps."""
