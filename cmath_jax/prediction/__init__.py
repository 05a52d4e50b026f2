"""New conversations in, emotions out: a trained model as a folder, prediction, calibration, export."""
