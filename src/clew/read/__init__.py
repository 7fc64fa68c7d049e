"""What is inside: readings of stock Hugging Face models on mazes, as arrays and tidy tables."""
