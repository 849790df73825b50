"""Ways to run a function on this machine: in this process, in AWS's own runtime, behind HTTP."""
