"""The command lines for training and prediction."""
