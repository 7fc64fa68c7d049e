"""Does pressure on answers leak into thoughts? Remedies side by side on mazes with a secret door."""
