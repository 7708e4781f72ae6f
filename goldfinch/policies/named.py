"""The names of the reading policies. Nothing is imported: settings and the command line check names before any work."""

from __future__ import annotations

# What was measured to answer best with the model; the whole document; blocks chosen by the question's words, or by
# the attention of the model.
AUTO, ALL, LEXICAL, HYBRID, ATTENTION = "auto", "all", "lexical", "hybrid", "attention"
POLICIES = (AUTO, ALL, LEXICAL, HYBRID, ATTENTION)
# Blocks to read: the most, and how many where neither a user nor a measurement says it. Those of "attention" are small.
MOST_BLOCKS = 64
DEFAULT_BLOCKS = {ATTENTION: 4}
# Answers to one question of which one is chosen.
MOST_CANDIDATES = 8
INSTALL_VECTORS = "pip install 'goldfinch-gf[find]'"
