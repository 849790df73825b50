"""The loop: retrain, gate, compare, promote, watch and roll back, by itself."""
