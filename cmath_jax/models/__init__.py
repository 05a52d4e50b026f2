"""The model of the paper, its parts, and those that it is compared with."""
