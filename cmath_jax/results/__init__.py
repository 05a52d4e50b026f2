"""The results of a run: its scores, and what they belong to."""
