"""moto's CloudFormation, with the resource types and change sets that the template needs."""
