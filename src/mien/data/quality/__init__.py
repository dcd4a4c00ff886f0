"""Data quality: statistics, exclusions, profiles, expectations."""
