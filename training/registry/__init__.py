"""The models' bucket: bundles, artifacts and signatures, channels and their history.

Every function raises `BucketError` if S3 fails; a docstring names it only for another reason.
"""
