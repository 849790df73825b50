"""The report of a model and its card: one HTML file that a browser shows without a network."""
