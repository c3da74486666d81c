"""Turn parameters into a plan for a spine: one file a pathology, and the rules that it keeps."""
