"""The parts of `clew bench fuzz`: what is fed to Clew, what is started with it, and what a good ending is."""
