"""Text in, token ids out: documents, tokenizers, prompt templates."""
