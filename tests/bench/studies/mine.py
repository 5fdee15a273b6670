PROMPTS = ("the cat and the dog and the cat", "once upon a time", "def add(a, b):")
"""What the studies of these tests continue."""
