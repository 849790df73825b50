"""Training: TLC months in, a published model bundle out."""
