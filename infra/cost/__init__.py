"""What a month of the stack costs: from measured time, the template, public prices and a stated load."""
