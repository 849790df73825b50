"""The soak: a million rides through a world that misbehaves, each accounted for, in memory that stays flat."""
