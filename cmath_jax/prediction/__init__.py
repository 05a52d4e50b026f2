"""Prediction: a trained model as a folder, the emotions of new conversations, export."""
