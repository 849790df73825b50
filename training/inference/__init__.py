"""Models in Python: load one by channel, version or path, and predict the rows of a DataFrame."""
