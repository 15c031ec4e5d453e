"""A small PHP shop and its traffic, so that the first run shows something real (`bitville demo`)."""
