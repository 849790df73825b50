"""template.yaml read: transformed, its conditions worked out, linted."""
