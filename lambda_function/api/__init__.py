"""The HTTP API: a request from API Gateway in, predictions out."""

from lambda_function.api.handler import lambda_handler

__all__ = ["lambda_handler"]
