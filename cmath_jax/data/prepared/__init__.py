"""Corpora prepared by tensorflow-datasets, in memory or streamed from disk."""
