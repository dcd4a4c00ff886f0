"""Labelled face data: sources, raw batches, prepared splits, quality checks."""
