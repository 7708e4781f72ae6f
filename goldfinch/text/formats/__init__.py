"""Office formats as Markdown, one file each. They read what anybody may have written: in a stream, within bounds."""
