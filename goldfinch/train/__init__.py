"""Training: recipe, data, planted facts, optimiser, loop (`gf train recipe.toml`)."""
