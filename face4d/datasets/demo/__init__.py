"""The embedded demo: a procedural head, people, expressions, and data sets made of them. No data from outside.

    surface      the skin as a formula          topology     how it is cut into triangles
    head         the mesh and its people        expressions  action units and the labels made of them
    embedding    the 68 landmarks               motion       neutral, apex, neutral over time
    flame        the head as a FLAME model      write        the folders on disk

Command line: ``python -m face4d.datasets.demo --output demo --seed 27``
"""
