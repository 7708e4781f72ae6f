"""How models of others are asked."""
