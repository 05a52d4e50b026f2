"""Data: every source turned into a Corpus, and a Corpus into batches."""
