"""The drawing, style and templates that the pages of report, scaling and serve share."""
