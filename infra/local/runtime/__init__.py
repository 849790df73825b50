"""Ways to run the function here: in this process, in AWS's own runtime, behind HTTP."""
