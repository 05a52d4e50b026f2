"""From labels and predictions to scores, intervals and tests; plain numbers in, plain numbers out."""
