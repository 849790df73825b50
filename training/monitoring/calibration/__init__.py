"""Live calibration: what is learned from joined hours, and how it moves the channel."""
