"""The names of the reading policies. Nothing is imported: settings and the command line check names before any work."""

from __future__ import annotations

# What was measured to answer best with the model; the whole document; blocks chosen by the question's words.
AUTO, ALL, LEXICAL, HYBRID = "auto", "all", "lexical", "hybrid"
POLICIES = (AUTO, ALL, LEXICAL, HYBRID)
MOST_BLOCKS = 64
INSTALL_VECTORS = "pip install 'goldfinch-gf[find]'"
