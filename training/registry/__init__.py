"""The models' bucket: bundles with their papers and signatures, channels and their history."""
