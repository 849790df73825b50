"""What is learned from outcomes: the join of an hour's rides with what happened, and its audit."""
