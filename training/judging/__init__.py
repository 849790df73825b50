"""How good a model is beside another: the gate and its rules, tests of chance, time, and how models age."""
