"""What a run came to, and what its scores belong to."""
