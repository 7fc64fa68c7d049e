"""The loops: imitation of given spans, and rounds of two policies; what they evaluate and plan by."""
