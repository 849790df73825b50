"""AWS on this machine: event source mapping, moto, runtimes, simulation and the demo."""
