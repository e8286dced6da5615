"""The embedded demo: a procedural head, people, expressions, and data sets made of them. No data from outside."""
