"""CloudFormation's and IAM's rules that need no moto: a template expanded, an order of creation, a policy decided."""
