"""One curation stage a file."""
