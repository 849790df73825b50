"""The soak: a million rides through a simulation with faults. Each ride is accounted for; memory must not grow."""
