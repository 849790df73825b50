"""moto's CloudFormation and IAM, patched in the server's process: `sam deploy` works on them, and policies hold."""
