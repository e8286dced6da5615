"""Registration: a scan of a head brought into the vertex order of a template."""
