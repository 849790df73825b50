"""The dashboard that template.yaml deploys, drawn on this machine from what the function has logged."""
