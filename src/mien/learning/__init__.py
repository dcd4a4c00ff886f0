"""What learns: networks, training, search."""
