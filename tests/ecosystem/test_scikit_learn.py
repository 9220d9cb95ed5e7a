"""scikit-learn with daemons as workers."""

import numpy as np
from joblib import parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC


def test_scikit_learn_finds_the_same_with_daemons(two_jobs: dict[str, object]) -> None:
    x, y = make_classification(200, random_state=0)
    grid = {"C": [0.1, 1.0], "gamma": [0.01, 0.1]}
    alone = GridSearchCV(SVC(), grid, cv=3).fit(x, y)
    forest = RandomForestClassifier(10, random_state=0)
    with parallel_config(**two_jobs):
        search = GridSearchCV(SVC(), grid, cv=3).fit(x, y)
        scores = cross_val_score(SVC(), x, y, cv=3)
        assert forest.fit(x, y).score(x, y) > 0.9
    assert search.best_params_ == alone.best_params_
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )
    np.testing.assert_allclose(scores, cross_val_score(SVC(), x, y, cv=3))
