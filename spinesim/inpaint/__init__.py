"""What a warp could not know: which voxels those are, and how they are painted; nothing else is touched."""
