"""From rides to a bundle: fit, intervals, export, parity, baseline."""
