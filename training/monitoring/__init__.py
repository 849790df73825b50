"""What is learned from outcomes: the join, live calibration and the monitor, and the hours that they share."""
