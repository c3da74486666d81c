"""The words of prompts: one file a kind, each with its ``VOCABULARY``."""
