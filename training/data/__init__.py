"""TLC's months as rides: found or downloaded, checked by a contract, read or generated, and divided into slices."""
