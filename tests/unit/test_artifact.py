from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

from headrace.errors import ArtifactError, TransientError
from headrace.models import artifact

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # a second and more for its scenes


def table(rows: int = 300) -> tuple[pd.DataFrame, Any]:
    generator = np.random.default_rng(1)
    x = pd.DataFrame({"a": generator.normal(size=rows), "c": generator.choice(list("xyz"), rows)})
    return x, (x["a"] + (x["c"] == "x") + generator.normal(size=rows) > 0).to_numpy()


def fitted(seed: int = 3, max_iter: int = 5) -> Pipeline:
    x, y = table()
    encode = ColumnTransformer([("c", OrdinalEncoder(), ["c"])], remainder="passthrough")
    return make_pipeline(encode, HistGradientBoostingClassifier(random_state=seed, max_iter=max_iter)).fit(x, y)


@pytest.fixture(scope="module")
def model() -> Pipeline:
    return fitted()


@pytest.fixture(scope="module")
def stored(model: Pipeline) -> artifact.Artifact:
    return artifact.dump(model)


def test_a_loaded_estimator_predicts_the_same_bits(model: Pipeline, stored: artifact.Artifact) -> None:
    x, _ = table()
    loaded = artifact.load(stored.data, [])
    assert np.array_equal(loaded.predict_proba(x), model.predict_proba(x))


def test_equal_estimators_have_equal_content_and_others_have_not(stored: artifact.Artifact) -> None:
    again = artifact.dump(fitted())
    assert again.digest != stored.digest  # skops stores memory addresses
    assert again.content_hash == stored.content_hash
    assert artifact.dump(artifact.load(stored.data, [])).content_hash == stored.content_hash
    assert artifact.dump(fitted(max_iter=6)).content_hash != stored.content_hash


def test_a_changed_array_changes_the_content_hash(model: Pipeline, stored: artifact.Artifact) -> None:
    changed = artifact.load(stored.data, [])
    changed[-1]._predictors[0][0].nodes["value"][0] += 1e-9
    assert artifact.dump(changed).content_hash != stored.content_hash


def doubled(x: Any) -> Any:
    return x * 2


def test_types_outside_the_deployments_list_are_named_with_the_text_to_paste() -> None:
    stored = artifact.dump(FunctionTransformer(doubled))
    with pytest.raises(
        ArtifactError, match=rf'{__name__}.doubled; .*: trusted_types = \["a.B", "{__name__}.doubled"\]$'
    ):
        artifact.load(stored.data, ["a.B"])
    assert artifact.load(stored.data, [f"{__name__}.doubled"]).func is doubled


def test_a_foreign_function_is_not_run() -> None:
    hostile = artifact.dump(FunctionTransformer(__import__("os").system))
    with pytest.raises(ArtifactError, match=r"posix\.system|os\.system"):
        artifact.load(hostile.data, [])


def test_truncated_bytes_are_refused_wherever_they_end(stored: artifact.Artifact) -> None:
    for end in (0, 1, 100, len(stored.data) // 2, len(stored.data) - 1):
        with pytest.raises(ArtifactError, match=r"truncated|not a skops file"):
            artifact.load(stored.data[:end], [])


def rewritten(data: bytes, name: str, content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.namelist():
            new.writestr(item, content if item == name else old.read(item))
    return target.getvalue()


@pytest.mark.parametrize(
    "schema",
    [b"", b"[]", b"{}", b'{"__loader__": "NoSuchNode", "protocol": 2}', b"[" * 100_000, b'{"protocol": 99}'],
)
def test_a_schema_that_lies_is_refused(stored: artifact.Artifact, schema: bytes) -> None:
    with pytest.raises(ArtifactError):
        artifact.load(rewritten(stored.data, "schema.json", schema), [])


def test_a_zip_bomb_is_refused_before_it_unpacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "_LARGEST", 10_000)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b"0" * 10_001)
    with pytest.raises(ArtifactError, match="zip bomb"):
        artifact.load(target.getvalue(), [])


def test_an_object_that_skops_cannot_store_is_an_artifact_error() -> None:
    with pytest.raises(ArtifactError, match="importable"):
        artifact.dump(FunctionTransformer(lambda x: x))


def test_a_stored_artifact_is_fetched_and_verified(stored: artifact.Artifact, tmp_path: Path) -> None:
    uri = artifact.store(stored, tmp_path / "a folder" / "model.skops")
    data = artifact.fetch(uri)
    artifact.verify(data, stored.digest)
    with pytest.raises(ArtifactError, match="not the published bytes"):
        artifact.verify(data + b"x", stored.digest)


def test_another_scheme_says_which_ones_are_read_and_a_missing_file_may_come() -> None:
    with pytest.raises(ArtifactError, match="read from folders, s3, gs, abfs, abfss and mlflow-artifacts"):
        artifact.fetch("hdfs://bucket/model.skops")
    with pytest.raises(TransientError, match="shared"):
        artifact.fetch("file:///no/such/model.skops")
