"""Quality of a model on held-out data, measured through the same prefill and session that users run."""
