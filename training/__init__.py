"""Training: TLC months in, a published model bundle out."""

import os

# Before scikit-learn loads OpenMP: on cores shared with other work, its threads else spin while they wait for each
# other, and a fit of 2 s takes 30.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
