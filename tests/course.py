"""The course's own linear model: the reference that `training.model.baseline` reproduces."""

from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline

from training.data.rides import Rides
from training.model.course import course_features


def course_pipeline(rides: Rides) -> Pipeline:
    """Fit the model as the course's lessons do, from a dict a ride: only for few rides."""
    pipeline = make_pipeline(DictVectorizer(), LinearRegression())
    return pipeline.fit(course_features(rides.columns), rides.duration_minutes)
