"""The patient as data: levels and label schemes, scans, vertebrae, the spine, the plan, and measurements."""
