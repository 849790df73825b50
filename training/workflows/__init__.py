"""The workflows that commands run: train, release, report, backtest and reproduce."""
