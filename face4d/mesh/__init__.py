"""Meshes on disk: PLY and OBJ files, and the numbered frames of a sequence. Vertex order and count never change."""
