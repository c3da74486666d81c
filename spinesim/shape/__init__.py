"""Statistical shape models of the spine: fit, sample, condition, score."""
