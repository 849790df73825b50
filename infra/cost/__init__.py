"""What a million rides cost: from measured time, public prices and a stated load."""
