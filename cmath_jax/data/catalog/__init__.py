"""The sources of corpora by their names: what each asks for, and how each is loaded."""
