"""The actions of the command line of the data: check, convert, publish."""
