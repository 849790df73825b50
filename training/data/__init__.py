"""TLC's months as rides: found or downloaded, held against a contract, read, made up, and cut into slices."""
