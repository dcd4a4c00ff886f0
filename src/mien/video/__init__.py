"""Faces over time: recordings, webcam, tracking, timeline."""
