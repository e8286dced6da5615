"""Generators: a label and a start frame in, a landmark sequence out."""
