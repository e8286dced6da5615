"""Rendered faces of random people, as training data for the networks that see photos."""
