"""Run folders: read and written here alone. Every module is light until it is called."""
