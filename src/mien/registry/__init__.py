"""What is kept and trusted: runs, model versions, aliases, provenance."""
