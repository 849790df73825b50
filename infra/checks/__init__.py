"""What is checked about the code and the stack beside ruff, mypy and the tests: each module runs with `python -m`."""
