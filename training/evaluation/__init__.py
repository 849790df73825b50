"""How good a model is: metrics by slice, gate, backtest."""
