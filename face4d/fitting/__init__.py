"""A face model fitted to photos: to points of the landmark network and to the shading of the skin."""
