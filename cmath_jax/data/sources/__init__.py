"""The sources of corpora: published files, one's own folders, the built-in corpus."""
