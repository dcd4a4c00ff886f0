"""Drift of what is served: histograms, windows, recorder, report."""
