"""The edge: everything that talks to AWS or reads the environment."""
