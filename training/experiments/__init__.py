"""Experiments: model versions compared on live rides, with verdicts that stay valid whenever one looks."""
