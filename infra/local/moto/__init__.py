"""The moto server with its Kinesis and CloudFormation mended."""
