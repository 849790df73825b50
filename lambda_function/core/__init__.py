"""The pure part: values in, values out; no AWS, no environment, no clock."""
