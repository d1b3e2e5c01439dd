"""The online store's documents read back as specs, and a document of a later release is refused by name."""

from __future__ import annotations

import msgspec
import pytest

from headrace.errors import DefinitionError, NewerFormatError
from headrace.features.definitions.expression import col
from headrace.features.definitions.spec import read_spec, to_document
from headrace.features.definitions.store_documents import (
    ServiceDocument,
    ViewDocument,
    deployment_number,
    name_the_same,
    read_service,
    read_view_name,
    view_names,
)
from headrace.features.definitions.view_spec import ViewSpec
from tests.support.rollout_scene import NEW, OLD, OLD_NAME, OTHER, OTHER_NAME, made, service


@pytest.mark.parametrize("spec", [OLD.spec, NEW.spec])
def test_a_views_document_reads_back_as_its_spec_with_its_version(spec: ViewSpec) -> None:
    found = read_spec(msgspec.json.decode(msgspec.json.encode(to_document(spec))), ViewSpec, "the view")
    assert (found, found.version, hash(found)) == (spec, spec.version, hash(spec))


def test_a_services_document_has_these_bytes_and_reads_back() -> None:
    document = ServiceDocument.of(service(OLD, OTHER), 3)
    assert msgspec.json.encode(to_document(document)) == (
        b'{"spec_version":1,"service":"risk","views":[["user","%s"],["other","%s"]],"deployment":3}'
        % (OLD.version.encode(), OTHER.version.encode())
    )
    assert read_service(to_document(document)).spec == service(OLD, OTHER)
    assert (view_names(document), deployment_number(document)) == ([OLD_NAME, OTHER_NAME], 3)


def test_a_document_without_a_deployment_is_of_number_0() -> None:
    document = ServiceDocument.of(service(OLD))
    assert b"deployment" not in msgspec.json.encode(to_document(document))
    assert deployment_number(document) == 0
    assert name_the_same(document, ServiceDocument.of(service(OLD), 7))
    assert not name_the_same(document, ServiceDocument.of(made(more=col("user__n_1h"))))


def test_the_document_of_a_views_name_has_these_bytes_and_reads_back() -> None:
    document = ViewDocument.of("user", "00ff", 2)
    assert msgspec.json.encode(to_document(document)) == b'{"view":"user","views":[["user","00ff"]],"deployment":2}'
    assert read_view_name(to_document(document)) == document


def test_the_views_of_a_service_of_a_later_release_can_be_read_and_its_spec_cannot() -> None:
    later = read_service(to_document(service(OLD)) | {"spec_version": 9, "on_demand": {"unheard": "of"}})
    assert view_names(later) == [OLD_NAME]
    with pytest.raises(NewerFormatError, match="spec version 9, this release reads up to 2: upgrade headrace"):
        _ = later.spec


def test_a_view_with_an_aggregate_of_a_later_release_is_refused_by_name() -> None:
    document = to_document(OLD.spec)
    document["features"][0]["aggregate"] = "trimmed_mean"
    with pytest.raises(DefinitionError, match=r"the view 'user@1' has a spec .* 'trimmed_mean' .*: upgrade headrace"):
        read_spec(document, ViewSpec, "the view 'user@1'")
