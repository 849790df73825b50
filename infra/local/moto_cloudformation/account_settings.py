"""Lambda's GetAccountSettings, which moto lacks: AWS's usual quotas, less what this server's functions take of them."""

import json

from moto.awslambda import urls
from moto.awslambda.responses import LambdaResponse

CONCURRENT_EXECUTIONS = 1000
TOTAL_CODE_BYTES = 75 << 30
UNZIPPED_CODE_BYTES, ZIPPED_CODE_BYTES = 250 << 20, 50 << 20
"""What AWS gives an account, but for very new ones, whose first is 10."""


def patch_account_settings() -> None:
    """Adds it to moto's, for the whole process; before its applications are made."""
    LambdaResponse.get_account_settings = _account_settings
    urls.url_paths[r"{0}/(?P<api_version>[^/]+)/account-settings/?$"] = LambdaResponse.dispatch


def _account_settings(response: LambdaResponse) -> str:
    functions = list(response.backend.list_functions())
    versions = list(response.backend.list_functions("ALL"))
    n_reserved = sum(int(function.reserved_concurrency or 0) for function in functions)
    limit = {
        "ConcurrentExecutions": CONCURRENT_EXECUTIONS,
        "UnreservedConcurrentExecutions": CONCURRENT_EXECUTIONS - n_reserved,
        "TotalCodeSize": TOTAL_CODE_BYTES,
        "CodeSizeUnzipped": UNZIPPED_CODE_BYTES,
        "CodeSizeZipped": ZIPPED_CODE_BYTES,
    }
    usage = {"FunctionCount": len(functions), "TotalCodeSize": sum(int(version.code_size) for version in versions)}
    return json.dumps({"AccountLimit": limit, "AccountUsage": usage})
