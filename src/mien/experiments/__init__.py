"""Recipes that run the pipeline in a folder of their own."""
