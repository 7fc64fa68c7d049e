"""Runs, readings and studies as one page that a browser opens: from disk, without a network, or served and live."""
