"""Files that are whole or absent, locks, the terminal: what every room stands on."""
