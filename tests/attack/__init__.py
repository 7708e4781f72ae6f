"""Commands that write, stopped or failing at their file-system calls."""
