"""What the commands on models do, and how they show it."""
