"""What a split learned to do with its thoughts: interventions, information, a stranger's reading, truth, leakage."""
