"""The `ridecast` command: commands, their options and their output."""
