"""MLflow runs, model versions, aliases, cards and provenance."""
