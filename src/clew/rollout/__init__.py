"""How completions are made, and what is kept of them: what each policy wrote, with what it read."""
