"""One file per method: its heads, its loss, and what is updated after a step."""
