"""Scores, intervals and tests of labels and predictions; plain numbers in, plain numbers out."""
