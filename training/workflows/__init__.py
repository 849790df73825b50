"""What the commands run: train, release, report, backtest, reproduce."""
