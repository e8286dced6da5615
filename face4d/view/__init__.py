"""Figures, pages and exports of moving faces: plots, the report, animated GLB files."""
