"""Reuse policies by what is written for them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from promptcache import Exact, Modular, NoReuse, reuse
from promptcache.errors import OptionError
from promptcache.reuse import ReusePolicy
from promptcache.reuse.named import known, policy, usual


@dataclass(frozen=True, slots=True)
class Every(ReusePolicy):
    """A policy with parameters, of which one has no default."""

    nth: int
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.nth < 1:
            raise OptionError(f"nth={self.nth} is not positive")


@pytest.fixture
def _every(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "Every", Every, raising=False)
    monkeypatch.setattr(reuse, "__all__", [*reuse.__all__, "Every"])


@pytest.mark.parametrize("written", ["Modular", "Modular()", " Modular ( ) "])
def test_a_policy_is_named_with_or_without_brackets(written: str) -> None:
    assert policy(written) == Modular()


def test_every_policy_is_found_where_policies_are() -> None:
    assert {Modular, Exact, NoReuse} <= set(known().values())
    assert usual()[0] == Modular()
    assert {Exact(), NoReuse()} <= set(usual())
    for one in usual():
        assert policy(str(one)) == one


@pytest.mark.usefixtures("_every")
def test_arguments_are_literals() -> None:
    assert policy("Every(8)") == Every(8)
    assert policy("Every(nth=3, share=0.25)") == Every(3, 0.25)
    assert policy(str(Every(2))) == Every(2)
    assert not any(isinstance(one, Every) for one in usual())


@pytest.mark.usefixtures("_every")
@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("Modula", "did you mean 'Modular'.*Exact.*Modular.*NoReuse"),
        ("ReusePolicy", "unknown reuse policy 'ReusePolicy'"),
        ("Modular(", "cannot be read"),
        ("", "cannot be read"),
        ("Modular() or Exact()", "unknown reuse policy"),
        ("Every(__import__('os'))", "cannot be read"),
        ("Every(*[1])", "cannot be read"),
        ("reuse.Every(1)", r"unknown reuse policy 'reuse\.Every\(1\)'"),
        ("Every", r"cannot be made of Every\(nth.*missing"),
        ("Every(0)", "nth=0 is not positive"),
        ("Modular(3)", "cannot be made of Modular"),
    ],
)
def test_anything_else_is_refused_with_the_valid_names(written: str, complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        policy(written)
