"""One module a stage: read files, call nouns, write files."""
