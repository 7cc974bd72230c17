"""scikit-learn searches parameters with joblib. With Procession, its backend runs the tasks."""

import sys

import joblib
import loaded  # noqa: F401
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score


def backend():
    if "procession" not in sys.modules:
        return "loky"
    import procession.joblib

    procession.joblib.register()
    return "procession"


def main():
    rows, labels = make_classification(20_000, 20, random_state=0)  # bigger than max_nbytes
    with joblib.parallel_config(backend=backend(), n_jobs=2):
        search = GridSearchCV(LogisticRegression(), {"C": [0.01, 0.1, 1.0]}, cv=3).fit(rows, labels)
        print(search.best_params_, np.round(search.cv_results_["mean_test_score"], 6).tolist())
        forest = RandomForestClassifier(10, max_depth=4, random_state=0)
        print(np.round(cross_val_score(forest, rows[:2000], labels[:2000], cv=3), 6).tolist())


if __name__ == "__main__":
    main()
