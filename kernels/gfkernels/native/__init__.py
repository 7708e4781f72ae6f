"""The C sources and what builds them."""
