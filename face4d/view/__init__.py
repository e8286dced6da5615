"""Pictures and exports of moving faces: shaded meshes, landmark drawings, GIFs, plots."""
