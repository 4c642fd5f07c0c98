"""BLAS threads: one inside narrow blocks, as many as before after them."""

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import cumprop
from cumprop.threads import PAYS_FROM, of_width


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(params=[1, 2])
def before(request):
    with threadpool_limits(request.param, user_api="blas"):
        if blas_threads() != {request.param}:
            pytest.skip("this BLAS does not take a number of threads")
        yield request.param


def test_narrow_products_take_one_thread_and_give_back_the_others(before):
    with of_width(PAYS_FROM - 1):
        assert blas_threads() == {1}
        with of_width(PAYS_FROM):
            assert blas_threads() == {1}
    assert blas_threads() == {before}


def test_wide_products_keep_the_threads(before):
    with of_width(PAYS_FROM):
        assert blas_threads() == {before}


def test_an_error_inside_gives_back_the_threads(before):
    with pytest.raises(ZeroDivisionError), of_width(2):
        raise ZeroDivisionError
    assert blas_threads() == {before}


def test_an_estimate_gives_back_the_threads(before):
    network = cumprop.random_mlp(width=8, depth=2, seed=0)
    cumprop.estimate(network, "cumulant")
    assert blas_threads() == {before}
