"""How good a model is: metrics, calibration, corruptions, tables, charts."""
