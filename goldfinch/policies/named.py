"""Names of reading policies and layouts. Nothing is imported: settings and options are checked before any work."""

from __future__ import annotations

# What was measured to answer best with the model; the whole document; blocks chosen by the question's words, or by
# the attention of the model.
AUTO, ALL, LEXICAL, HYBRID, ATTENTION = "auto", "all", "lexical", "hybrid", "attention"
POLICIES = (AUTO, ALL, LEXICAL, HYBRID, ATTENTION)
# Blocks to read: the most, and how many where neither a user nor a measurement says it. Those of "attention" are small.
MOST_BLOCKS = 64
DEFAULT_BLOCKS = {ATTENTION: 4}
# How a model of others keeps a document: all of it, each token seeing all before; in blocks that are blind to each
# other; in blocks where the whole has no room (AUTO).
WHOLE, BLOCKS = "whole", "blocks"
LAYOUTS = (AUTO, WHOLE, BLOCKS)
# Answers to one question of which one is chosen.
MOST_CANDIDATES = 8
INSTALL_VECTORS = "pip install 'goldfinch-gf[find]'"
