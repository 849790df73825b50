"""The monitor: the days of the served model against those of its training, alarms, status and events."""
