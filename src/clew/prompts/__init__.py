"""The world of a user's own prompts."""
