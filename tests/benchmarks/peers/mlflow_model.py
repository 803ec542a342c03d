"""Save the forest as an MLflow model, for `mlflow models serve`."""

import sys

import mlflow
from forest import fitted

mlflow.sklearn.save_model(fitted(jobs=1), sys.argv[1], serialization_format="cloudpickle")
