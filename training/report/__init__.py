"""The report and model card: one HTML file that a browser shows without a network."""
