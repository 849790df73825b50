"""Names that moto's server and the process which started it share. It imports nothing: moto takes a second."""

RUNTIME_TAG = "ridecast:runtime"
"""The tag of a function with the address, HOST:PORT, that runs it."""

ERROR_HEADER = "x-amz-function-error"
"""The header of an answer to Invoke that says that the function failed."""
