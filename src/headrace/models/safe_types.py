"""The types of scikit-learn that an artifact may hold without being in a deployment's own list.

skops knows scikit-learn's public estimators as safe. Many of them hold helpers that are not public, and skops asks
about these: the trees of a forest, the index of a neighbour search, the optimizer of a network. The list names each
one, because a rule such as "everything below ``sklearn.``" would also allow what these modules import, and functions
that read files or run other code.

A type is here if it holds numbers, arrays and texts, and if making one of it runs only the code of scikit-learn. What
can hold a function, such as ``PyFuncDistance``, is not here. A function or a class that an estimator refers to is named
in the artifact by itself, so it needs the deployment's trust wherever it is. The functions here are the scores by which
features are selected, and the check of an array. A partial is here because its function has to be trusted like any
other; ``HistGradientBoosting`` keeps one if some of its columns are categories.
"""

from __future__ import annotations

_DISTANCES = (
    "Euclidean", "SEuclidean", "Manhattan", "Chebyshev", "Minkowski", "Mahalanobis", "Hamming", "Canberra",
    "BrayCurtis", "Jaccard", "Dice", "RogersTanimoto", "RussellRao", "SokalMichener", "SokalSneath", "Haversine",
)  # fmt: skip
_KERNELS = (
    "CompoundKernel", "ConstantKernel", "DotProduct", "ExpSineSquared", "Exponentiation", "Matern", "Product", "RBF",
    "RationalQuadratic", "Sum", "WhiteKernel",
)  # fmt: skip
_SCORES = ("chi2", "f_classif", "f_regression", "r_regression")

SAFE_TYPES: frozenset[str] = frozenset(
    [
        "functools.partial",
        "numpy.dtype",  # the type of an array's elements
        "scipy.sparse._csr.csr_matrix",
        "scipy.sparse._csc.csc_matrix",
        "sklearn._loss.loss.HalfTweedieLoss",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.model_selection._split.KFold",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.multiclass._ConstantPredictor",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",  # a dict
        "sklearn.utils.validation.check_array",
        *(f"sklearn.metrics._dist_metrics.{name}Distance{bits}" for name in _DISTANCES for bits in (32, 64)),
        *(f"sklearn.gaussian_process.kernels.{name}" for name in _KERNELS),
        *(f"sklearn.feature_selection._univariate_selection.{name}" for name in _SCORES),
    ]
)
