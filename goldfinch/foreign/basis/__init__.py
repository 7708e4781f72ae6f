"""The basis of a model of others, in which its keys and values are coded."""
