"""A conditional flow-matching generator of landmark motion."""
