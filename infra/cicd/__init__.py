"""What the deployment workflow runs: a release is built once, its change set shown, carried out, and undone."""
