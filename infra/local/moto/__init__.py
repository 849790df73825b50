"""moto's server, with corrections to its Kinesis and CloudFormation."""
