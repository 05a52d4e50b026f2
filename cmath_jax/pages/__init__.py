"""What the pages of report, scaling and serve share."""
