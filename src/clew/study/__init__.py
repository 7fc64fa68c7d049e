"""How much does a credit rule matter? Worlds small enough to be exact, and the instrument that compares rules there."""
