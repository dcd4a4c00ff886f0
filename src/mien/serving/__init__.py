"""The BentoML service: HTTP only."""
