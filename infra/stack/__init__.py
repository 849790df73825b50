"""The template, the package, the release and the change sets of a stack."""
