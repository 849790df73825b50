"""The main job on this machine: rides through stream, function and stream, counted."""
