"""Floor 3: a turn, from the prompt to the finished answer."""
