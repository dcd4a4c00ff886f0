"""What changed since a revision, what a retraining made of it, and the report on both."""
