"""Names with settings, and whatever else somebody may write there."""

import contextlib
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from outpace import Drafter, registry
from outpace.bench import check_methods
from outpace.calls import Call, is_call, parse_call, settable, split
from outpace.compose import make_drafter, make_lengths, make_verifier
from outpace.drafters.shape_names import parse_shape
from outpace.errors import InvalidArgument, OutpaceError


def parsed(text: str) -> Call:
    return parse_call(text, f"drafter {text!r}", "ngram(order=4)")


class Thing:
    def __init__(
        self,
        count: int = 1,
        share: float = 0.5,
        *,
        name: "str | None" = None,
        on: bool = False,
        kind: Literal["a", 3] = "a",
        rates: Sequence[float] = (),
        whole: tuple[int, ...] = (),
        free=None,
        both: int | bool | str = 0,
        other: "Unheard[int]" = None,  # type: ignore[name-defined]  # noqa: F821
        source: Drafter | None = None,
        sources: Sequence[Drafter] = (),
        **more: Any,
    ) -> None:
        self.given = dict(locals())


def of(text: str) -> dict[str, Any]:
    return parsed(text).settings(Thing)


def test_values_are_literals_or_words():
    assert of("x(count=-3, share=2, name='a,(b', on=TRUE, kind=3)") == {
        "count": -3,
        "share": 2,
        "name": "a,(b",
        "on": True,
        "kind": 3,
    }
    assert of("x( name = ./a/b-1.safetensors , )") == {"name": "./a/b-1.safetensors"}
    assert of(r"x(name=C:\new\x)") == {"name": r"C:\new\x"}
    assert of(r"x(name='it\'s, (so', count=1)") == {"name": "it's, (so", "count": 1}
    assert of("x(name=none)") == {"name": None}
    assert of("x(name=1b, free={1: [2, 3]}, both=true)") == {
        "name": "1b",
        "free": {1: [2, 3]},
        "both": True,
    }
    assert of("x(rates=(0.5, 1), whole=[1, 2])") == {"rates": (0.5, 1), "whole": [1, 2]}
    assert of("x") == of("x()") == of("x( )") == {}


def test_what_no_text_can_give_is_not_listed():
    known = ["count", "share", "name", "on", "kind", "rates", "whole", "free", "both"]
    assert list(settable(Thing)) == known


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x(coutn=1)", "unknown setting of x 'coutn' (did you mean 'count'?): choose one of count"),
        ("x(source=1)", "unknown setting of x 'source'"),
        ("x(more=1)", "unknown setting of x 'more'"),
        ("x(count=1, count=1)", "x: count is given twice: give it once"),
        ("x(count=True)", "x: count True: give a whole number"),
        ("x(count=1.0)", "x: count 1.0: give a whole number"),
        ("x(share=big)", "x: share big: give a number"),
        ("x(name=5)", "x: name 5: give a text (a number in quotes) or None"),
        ("x(name=a b)", "x: name a b: give a text"),
        ("x(name=a\nb)", "x: name a b: give a text"),
        ("x(name=a=b)", "x: name a=b: give a text"),
        ("x(on=1)", "x: on 1: give True or False"),
        ("x(kind=True)", "x: kind True: give 'a' or 3"),
        ("x(whole=[1, 2.5])", "x: whole [1, 2.5]: give a list, each a whole number"),
        ("x(rates=1)", "x: rates 1: give a list, each a number"),
        ("x(1)", "drafter 'x(1)': give NAME(KEY=VALUE, ...), as in ngram(order=4)"),
        ("x(count=)", "give NAME"),
        ("x(,)", "give NAME"),
        ("x(count=1", "give NAME"),
        ("x(count=1)y", "give NAME"),
        ("x y(count=1)", "give NAME"),
        ("x(count=1)(share=1)", "count 1)(share=1: give a whole number"),
        ("", "give NAME"),
    ],
)
def test_everything_else_is_refused_in_a_line(text, said):
    with pytest.raises(InvalidArgument) as refusal:
        of(text)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_arguments_without_a_default():
    def needs(count: int, source: Drafter | None = None) -> None: ...

    def cannot(source: Drafter) -> None: ...

    assert parsed("x(count=1)").settings(needs) == {"count": 1}
    with pytest.raises(InvalidArgument, match=r"x needs count: give x\(count=...\)"):
        parsed("x").settings(needs)
    with pytest.raises(InvalidArgument, match="x needs source, which no text can give"):
        parsed("x").settings(cannot)
    with pytest.raises(InvalidArgument, match="none takes no settings: leave 'a' out"):
        parsed("none(a=1)").settings(registry.get("drafter", "none"))


def test_splitting():
    assert split("a,b(c=1, d='),'),e@2", ",") == ["a", "b(c=1, d='),')", "e@2"]
    assert split("it's,b's", ",") == ["it's", "b's"]
    assert split("early-exit(keep=a@b)@3", "@") == ["early-exit(keep=a@b)", "3"]
    assert split("a)),b", ",") == ["a))", "b"]
    assert split("", ",") == [""]


def test_paths_are_no_calls():
    assert is_call("ngram(order=4)")
    assert is_call("ngram (")
    for text in ("ngram", "./a(b)", "retokenized:a(b)", "tree:fixed(depth=2)", "(a)", "/x (copy)"):
        assert not is_call(text)


def test_drafters_verifiers_and_lengths_take_settings(tmp_path, monkeypatch):
    assert make_drafter("ngram(order=4)").store.order == 4
    assert make_drafter("quantized-self(precision=int4, head=True)").head
    assert make_verifier("rejection(skip_sample_adjustment=True)").exact is False
    assert make_lengths("adaptive(start=3)").length == 3
    with pytest.raises(InvalidArgument, match=r"n-gram order 1: give 2 or more"):
        make_drafter("ngram(order=1)")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ngram(order=3)").mkdir()
    (tmp_path / "mine(order=3)").mkdir()
    assert make_drafter("ngram(order=3)").store.order == 3
    with pytest.raises(OutpaceError, match=r"mine\(order=3\): the folder has no config.json"):
        make_drafter("mine(order=3)")


def test_a_constructor_that_fails_is_told_in_a_line(monkeypatch):
    def fails(self, **_):
        raise OverflowError("far too much\nof it")

    monkeypatch.setattr(registry.get("drafter", "ngram"), "__init__", fails)
    with pytest.raises(InvalidArgument) as refusal:
        make_drafter("ngram")
    assert str(refusal.value) == (
        "drafter 'ngram' cannot be made (OverflowError: far too much): give other settings"
    )


values = st.one_of(
    st.integers(-5, 70).map(str),
    st.floats().map(str),
    st.sampled_from(["True", "none", "int4", "'a'", "[0.5]", "(", "{[]}", "1_0", "\\", "'", "1if"]),
    st.text(max_size=6),
)
calls = st.builds(
    lambda name, given: f"{name}({', '.join(f'{key}={value}' for key, value in given)})",
    st.sampled_from([*registry.names("drafter"), "nope", "zoo:small", "./x"]),
    st.lists(
        st.tuples(
            st.sampled_from(["order", "layers", "precision", "head", "rates", "factor", "longest"]),
            values,
        ),
        max_size=3,
    ),
)


@pytest.fixture
def no_hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=calls | st.text(max_size=30))
@example(text="a" * 5000)
@example(text="ngram(order=" + "9" * 5000 + ")")
@example(text="ngram(order=" + "(" * 3000 + ")" * 3000 + ")")
@example(text="~nobody/x")
@example(text="\ud800")
def test_any_text_is_a_drafter_or_a_refusal(text, no_hub):
    try:
        made = make_drafter(text)
    except OutpaceError:
        return
    assert isinstance(made, Drafter)


@settings(max_examples=200, deadline=None)
@given(text=calls.map(lambda call: f"{call}@3") | calls | st.text(max_size=20))
@example(text="tree:" + "(" * 5000)
@example(text="ngram(order=4)@@")
def test_any_text_is_methods_a_shape_or_a_refusal(text):
    for read in (parse_shape, lambda one: check_methods(split(one, ","))):
        with contextlib.suppress(OutpaceError):
            assert read(text)
