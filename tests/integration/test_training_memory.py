"""A year of yellow taxis trains within 6 GB: what a ride more costs, measured on two small sizes."""

from tests.bench.training_growth import BUDGET_GB, TrainingCost, measure_training

N_YEAR_RIDES = 36_000_000
N_TREES = 3
"""Enough: all arrays are there from the first tree on, and each tree takes a few kilobytes."""


def measured(n_rides: int) -> TrainingCost:
    return measure_training(n_rides, N_TREES)


def test_twelve_months_of_three_million_rides_fit_into_the_budget() -> None:
    few, many = measured(600_000), measured(2_400_000)
    gb_a_ride = (many.peak_gb - few.peak_gb) / (many.n_rides - few.n_rides)
    year_gb = many.peak_gb + gb_a_ride * (N_YEAR_RIDES - many.n_rides)
    assert year_gb <= BUDGET_GB, f"{gb_a_ride * 1e9:.0f} bytes a ride would be {year_gb:.2f} GB for a year"
