"""Scores, trivial predictors and tables."""
