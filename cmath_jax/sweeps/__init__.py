"""Experiment files, and the runs around them."""
