"""FLAME: a face as identity, expression and pose. Model files, the differentiable layer, fitting to meshes and
landmarks.
"""
