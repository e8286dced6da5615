"""Drawing of meshes and landmarks: z-buffers, shading, textures, GIF and MP4 files. Below all models."""
