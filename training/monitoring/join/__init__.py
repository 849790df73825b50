"""The join of an hour's rides with what happened, and its audit."""
