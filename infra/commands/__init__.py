"""The commands of `ridecast`, a file for each few that belong together; `infra/cli.py` puts them under their names."""
