"""The models in readable torch."""
