"""Model evaluation: metrics, calibration, corruptions, tables, charts."""
