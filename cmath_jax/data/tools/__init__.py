"""What the command line of the data does: check, convert, publish."""
