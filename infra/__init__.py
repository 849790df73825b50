"""The command line, the stack and the embedded AWS that run the function on a laptop."""
