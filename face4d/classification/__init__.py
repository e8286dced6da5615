"""The expression classifier that scores generated sequences."""
