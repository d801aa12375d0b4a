"""The ends of an estimation, as people and programs read them."""

import mixmeta_jax as mx


def test_a_status_prints_as_its_name_and_counts_as_a_number():
    assert str(mx.Status.BOUNDARY) == f"{mx.Status.BOUNDARY}" == "BOUNDARY"
    assert mx.Status(1) is mx.Status.BOUNDARY
    assert [status.converged for status in mx.Status] == [True, True, False, False, False, False]
    assert all(status.sentence.endswith(".") for status in mx.Status)
