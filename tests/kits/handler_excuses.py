"""What CloudFormation's handlers may call and the execution role does not allow: by property, or by reason."""

BY_PROPERTY: dict[str, dict[str, set[str]]] = {
    "AWS::CodeDeploy::DeploymentGroup": {"OnPremisesInstanceTagFilters": {"codedeploy:RegisterOnPremisesInstance"}},
    "AWS::Glue::Table": {
        "OpenTableFormatInput": {"lakeformation:GetDataAccess", "s3:PutObject"},
    },
    "AWS::IAM::ManagedPolicy": {
        "Groups": {"iam:AttachGroupPolicy", "iam:DetachGroupPolicy"},
        "Roles": {"iam:AttachRolePolicy", "iam:DetachRolePolicy"},
        "Users": {"iam:AttachUserPolicy", "iam:DetachUserPolicy"},
    },
    "AWS::IAM::Policy": {
        "Groups": {"iam:DeleteGroupPolicy", "iam:GetGroupPolicy", "iam:PutGroupPolicy"},
        "Users": {"iam:DeleteUserPolicy", "iam:GetUserPolicy", "iam:PutUserPolicy"},
    },
    "AWS::IAM::Role": {"ManagedPolicyArns": {"iam:AttachRolePolicy", "iam:DetachRolePolicy"}},
    "AWS::KMS::Key": {"Enabled": {"kms:DisableKey", "kms:EnableKey"}},
    "AWS::Kinesis::Stream": {
        "MaxRecordSizeInKiB": {"kinesis:UpdateMaxRecordSize"},
        "RecordDistributionStrategy": {"kinesis:UpdateStreamRecordDistributionStrategy"},
        "WarmThroughputMiBps": {"kinesis:UpdateStreamWarmThroughput"},
    },
    "AWS::Lambda::Alias": {
        "ProvisionedConcurrencyConfig": {
            "lambda:DeleteProvisionedConcurrencyConfig",
            "lambda:PutProvisionedConcurrencyConfig",
        }
    },
    "AWS::Lambda::EventSourceMapping": {"KmsKeyArn": {"kms:Decrypt", "kms:GenerateDataKey"}},
    "AWS::Lambda::Function": {
        "CapacityProviderConfig": {"lambda:PassCapacityProvider"},
        "CodeSigningConfigArn": {
            "lambda:DeleteFunctionCodeSigningConfig",
            "lambda:GetCodeSigningConfig",
            "lambda:PutFunctionCodeSigningConfig",
        },
        "FileSystemConfigs": {"elasticfilesystem:DescribeMountTargets", "s3files:ListMountTargets"},
        "FunctionScalingConfig": {"lambda:PutFunctionScalingConfig"},
        "KmsKeyArn": {"kms:CreateGrant", "kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"},
        "Layers": {"lambda:GetLayerVersion"},
        "RecursiveLoop": {"lambda:PutFunctionRecursionConfig"},
        "RuntimeManagementConfig": {"lambda:PutRuntimeManagementConfig"},
        "VpcConfig": {
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets",
            "ec2:DescribeVpcs",
        },
    },
    "AWS::Lambda::Version": {
        "FunctionScalingConfig": {"lambda:PutFunctionScalingConfig"},
        "ProvisionedConcurrencyConfig": {"lambda:PutProvisionedConcurrencyConfig"},
        "RuntimePolicy": {"lambda:PutRuntimeManagementConfig"},
    },
    "AWS::Logs::LogGroup": {
        "BearerTokenAuthenticationEnabled": {"logs:PutBearerTokenAuthentication"},
        "DataProtectionPolicy": {
            "firehose:TagDeliveryStream",
            "logs:DeleteDataProtectionPolicy",
            "logs:PutDataProtectionPolicy",
        },
        "DeletionProtectionEnabled": {"logs:PutLogGroupDeletionProtection"},
        "FieldIndexPolicies": {"logs:DeleteIndexPolicy", "logs:PutIndexPolicy"},
        "ResourcePolicyDocument": {"logs:DeleteResourcePolicy"},
    },
    "AWS::S3::Bucket": {
        "AbacStatus": {"s3:PutBucketAbac"},
        "AccelerateConfiguration": {"s3:PutAccelerateConfiguration"},
        "AccessControl": {"s3:PutBucketAcl", "s3:PutObjectAcl"},
        "AnalyticsConfigurations": {"s3:PutAnalyticsConfiguration"},
        "CorsConfiguration": {"s3:PutBucketCORS"},
        "IntelligentTieringConfigurations": {"s3:PutIntelligentTieringConfiguration"},
        "InventoryConfigurations": {"s3:PutInventoryConfiguration"},
        "LoggingConfiguration": {"s3:PutBucketLogging"},
        "MetadataConfiguration": {
            "s3:UpdateBucketMetadataAnnotationTableConfiguration",
            "s3:UpdateBucketMetadataInventoryTableConfiguration",
            "s3:UpdateBucketMetadataJournalTableConfiguration",
        },
        "MetadataTableConfiguration": {
            "s3:CreateBucketMetadataTableConfiguration",
            "s3:DeleteBucketMetadataTableConfiguration",
            "s3tables:CreateNamespace",
            "s3tables:CreateTable",
            "s3tables:CreateTableBucket",
            "s3tables:GetTable",
            "s3tables:GetTableMetadataLocation",
            "s3tables:PutTableBucketPolicy",
            "s3tables:PutTableEncryption",
            "s3tables:PutTablePolicy",
            "s3tables:UpdateTableMetadataLocation",
        },
        "MetricsConfigurations": {"s3:PutMetricsConfiguration"},
        "ObjectLockConfiguration": {"s3:PutBucketObjectLockConfiguration"},
        "ReplicationConfiguration": {"s3:PutReplicationConfiguration"},
        "WebsiteConfiguration": {"s3:DeleteBucketWebsite", "s3:PutBucketWebsite"},
    },
    "AWS::SNS::Topic": {"DataProtectionPolicy": {"sns:PutDataProtectionPolicy"}},
}
"""Calls that CloudFormation makes only for a property that the template does not set."""

_FEDERATED = "only for a database of another catalog"
BY_REASON: dict[str, dict[str, str]] = {
    "AWS::Glue::Database": {
        f"glue:{verb}Connection": _FEDERATED for verb in ("Create", "Delete", "Get", "Pass", "Update")
    },
    "AWS::Glue::Table": {
        "glue:GetSchemaVersion": "only for columns from Glue's schema registry",
        "glue:PassConnection": _FEDERATED,
    },
    "AWS::IAM::Role": {"iam:DeleteRolePermissionsBoundary": "no deployment may take a role out of its boundary"},
    "AWS::S3::Bucket": {"s3:DeleteObject": "what is in the bucket no deployment may touch"},
}
"""Calls that are refused on purpose."""
