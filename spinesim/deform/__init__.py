"""Carry out a plan: anchors, the flow, the field, and the warp; knows no pathology by name."""
