"""River expressions: what builds, and that nothing else does."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from river import base, compose, linear_model, metrics, optim, preprocessing

from driftline.core.error import ExpressionError
from driftline.core.notation import is_factory
from driftline.core.river.building import METRICS, make_detector, make_metric, make_model
from driftline.core.river.curve import ROCAUC
from driftline.core.river.expression import RIVER, build, params_used
from driftline.core.river.select import Select


def built(expression: str, params: Mapping[str, Any] | None = None) -> Any:
    return build(expression, params)


def refusal(expression: str, params: Mapping[str, Any] | None = None) -> str:
    with pytest.raises(ExpressionError) as caught:
        build(expression, params)
    return str(caught.value)


# -- what builds


def test_a_pipeline_of_river() -> None:
    model = built("StandardScaler() | LogisticRegression(optimizer=SGD(0.1), l2=1e-3)")
    assert isinstance(model, compose.Pipeline)
    scaler, regression = model.steps.values()
    assert isinstance(scaler, preprocessing.StandardScaler)
    assert isinstance(regression, linear_model.LogisticRegression)
    assert isinstance(regression.optimizer, optim.SGD)
    assert regression.l2 == 1e-3


@pytest.mark.parametrize(
    "name", ["LogisticRegression", "linear_model.LogisticRegression", "river.linear_model.LogisticRegression"]
)
def test_names_with_and_without_their_module(name: str) -> None:
    assert isinstance(built(f"{name}()"), linear_model.LogisticRegression)
    assert isinstance(built(name), linear_model.LogisticRegression)


def test_names_in_modules_of_modules() -> None:
    assert isinstance(built("optim.losses.Hinge()"), optim.losses.Hinge)
    assert isinstance(built("losses.Hinge()"), optim.losses.Hinge)


def test_an_ambiguous_name_needs_its_module() -> None:
    text = refusal("Constant(3)")
    assert "optim.initializers.Constant" in text
    assert "optim.schedulers.Constant" in text
    assert isinstance(built("optim.schedulers.Constant(3)"), optim.schedulers.Constant)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1", 1), ("-1.5", -1.5), ("+2", 2), ("1e-3", 1e-3), ("True", True), ("None", None), ("'a'", "a"),
        ("24 * 7", 168),
        ("[1, 'a', None]", [1, "a", None]),
        ("(1, 2)", (1, 2)), ("{'a': 1, 2: [3]}", {"a": 1, 2: [3]}), ("1 + 2", 3),
        ("'a' 'b'", "ab"), ("()", ()), ("[\n1,\n# a comment\n2]", [1, 2]),
    ],
)  # fmt: skip
def test_literals(expression: str, value: object) -> None:
    assert built(expression) == value
    assert type(built(expression)) is type(value)


def test_operators_join_in_order() -> None:
    model = built("(Select('a') | StandardScaler()) + (Select('b') | OneHotEncoder()) | LogisticRegression()")
    union, last = model.steps.values()
    assert isinstance(union, compose.TransformerUnion)
    assert isinstance(last, linear_model.LogisticRegression)
    assert isinstance(built("Select('a') * Select('b')"), compose.TransformerProduct)
    assert isinstance(built("StandardScaler() * 'shop'"), compose.Grouper)


def test_a_bare_name_is_an_instance_everywhere() -> None:
    model = built("StandardScaler | BaggingClassifier(model=HoeffdingTreeClassifier)")
    assert all(isinstance(step, base.Estimator) for step in model.steps.values())


def test_a_window_over_time_takes_a_duration() -> None:
    for name in ("timedelta", "dt.timedelta", "datetime.timedelta"):
        assert built(f"TimeRolling(stats.Mean, period={name}(days=7, hours=1))").period == timedelta(days=7, hours=1)
    assert "more than 0" in refusal("TimeRolling(stats.Mean, timedelta(0))")
    assert "at most 36500 days" in refusal("TimeRolling(stats.Mean, timedelta(weeks=10000))")
    assert "as in timedelta(days=7)" in refusal("timedelta('7 days')")
    assert "as in timedelta(days=7)" in refusal("timedelta(fortnights=2)")
    assert "as in timedelta(days=7)" in refusal("timedelta(days=9223372036854775807)")


def test_rolling_takes_a_class() -> None:
    rolling = built("Agg(on='a', by='b', how=utils.Rolling(stats.Var, window_size=3, ddof=0))")
    assert rolling.transform_one({"a": 1, "b": 2})


def test_select_type_takes_types() -> None:
    model = built("(SelectType(numbers.Number) | StandardScaler()) + (SelectType(str) | OneHotEncoder())")
    assert model.transform_one({"a": 1.0, "b": "x"}) == {"a": 0.0, "b_x": 1}


def test_every_class_of_the_namespace_is_found_by_its_path() -> None:
    assert len(RIVER.classes) > 250
    assert list(RIVER.classes) == sorted(RIVER.classes)
    for path, kind in RIVER.classes.items():
        assert RIVER.find(path) is kind
        assert RIVER.find(f"river.{path}") is kind


# -- parameters


def test_params_are_put_in_as_values() -> None:
    assert built("LogisticRegression(optimizer=SGD($lr))", {"lr": 0.25}).optimizer.learning_rate == 0.25
    assert built("[$a, $ab]", {"a": "LogisticRegression()", "ab": True}) == ["LogisticRegression()", True]


def test_params_are_not_pasted_into_text() -> None:
    assert built("'$lr'", {"lr": 1}) == "$lr"
    assert built('["$lr", $lr]  # $nothing', {"lr": "') or 1"}) == ["$lr", "') or 1"]


def test_unknown_params_are_told() -> None:
    assert "did you mean lr" in refusal("SGD($lrr)", {"lr": 1})
    assert "no such parameter" in refusal("SGD($)", {"lr": 1})
    assert "params: none" in refusal("SGD($x)")


def test_params_cannot_be_called_or_walked() -> None:
    assert "can be called" in refusal("$lr()", {"lr": 1})
    assert "a dot is only allowed" in refusal("$lr.__class__", {"lr": 1})


def test_params_used() -> None:
    assert params_used("SGD($lr) | '$no' | $lr + $other # $no") == ("lr", "other")


# -- what does not build


@pytest.mark.parametrize(
    "expression",
    [
        "", "   ", "# only a comment", "(", ")", "a b", "1 +", "lambda: 1", "[x for x in y]", "{1, 2}",
        "f'{1}'", "b'x'",
        "...", "1j", "1e999", "-1e999", "10**9", "2 ** 3", "1 - 1", "1 / 2", "'a' * 9", "[1] * 9",
        "1 if True else 2", "not True",
        "a[0]", "x := 1", "await x", "yield", "1 < 2", "True and False", "~1", "-'a'", "-True", "*a", "**a",
        "SGD(*[1])",
        "SGD(**{'lr': 1})", "{**{}}", "{SGD(): 1}", "9" * 30, "1; 2", "1\n2", "import os", "a) + (b", "9e307 * 100",
        "StandardScaler() | 3", "StandardScaler() + {1: 2}", "StandardScaler() - StandardScaler()", "3 | 4",
    ],
)  # fmt: skip
def test_what_is_no_expression(expression: str) -> None:
    assert refusal(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os')", "open('x')", "eval('1')", "print(1)", "os.system('x')", "().__class__", "'a'.join([])",
        "SGD().__init__", "SGD.__mro__", "linear_model.LogisticRegression.clone()", "SGD().step()",
        "(SGD)()()", "[SGD][0]()",
        "datasets.Phishing()", "stream.iter_csv('x')", "evaluate.progressive_val_score()", "base.Estimator()",
        "river.api.linear_model.LogisticRegression()", "utils.log_method_calls()", "str('a')", "int(1)",
        "numbers.Number()",
        "compose.FuncTransformer(str)", "RandomTreesEmbedding()", "linear_model", "linear_model()", "ǂlr",
    ],
)  # fmt: skip
def test_nothing_but_rivers_classes_can_be_reached(expression: str) -> None:
    assert refusal(expression, {"lr": 1})


@pytest.mark.parametrize(
    "expression",
    [
        "x" * 1_000_000,
        "(" * 10_000 + "1" + ")" * 10_000,
        "[" * 10_000,
        "-" * 10_000 + "1",
        "- " * 390 + "1",
        "not " * 4_000 + "True",
        " | ".join(["StandardScaler()"] * 2_000),
        ".".join("a" * 9_000),
        "SGD(" * 100 + ")" * 100,
        "{'a':" * 60 + "1" + "}" * 60,
        "lambda:" * 2_500 + "1",
        "1 if 1 else " * 1_500 + "1",
        "'" + "\\" * 19_000,
        "\x00",
        "a\u0000b",
        "\ud800",
    ],
    ids=lambda expression: repr(expression[:12]),
)
def test_size_and_depth_are_bounded(expression: str) -> None:
    text = refusal(expression)
    assert len(text) < 1_000


def test_length_is_bounded_before_anything_is_parsed() -> None:
    assert "at most 20000" in refusal("'" + "a" * 20_000 + "'")
    assert built("'" + "a" * 19_000 + "'")


def test_long_but_sane_expressions_build() -> None:
    model = built(" | ".join(["StandardScaler()"] * 300) + " | LogisticRegression()")
    assert len(model.steps) == 301


def test_errors_name_the_place() -> None:
    assert refusal("StandardScaler() | Foo()").startswith("line 1, column 20, `Foo`")
    assert refusal("StandardScaler()\n  | Foo()").startswith("line 2, column 5, `Foo`")
    assert refusal("'é' 'ü', $lr, Foo()", {"lr": 1}).startswith("line 1, column 15, `Foo`")


def test_errors_have_close_matches() -> None:
    assert "did you mean LogisticRegression" in refusal("LogisticRegresion()")
    assert "did you mean StandardScaler" in refusal("standardscaler()")
    assert "did you mean optimizer?" in refusal("LogisticRegression(optimiser=SGD())")
    assert "it takes" in refusal("StandardScaler(1, 2, 3)")


def test_river_s_own_refusals_are_told() -> None:
    text = refusal("VotingClassifier([GaussianNB()])")
    assert "River refuses this" in text
    assert "At least 2 models" in text


def test_one_hot_encoder_with_categories_is_refused() -> None:
    assert "sets" in refusal("OneHotEncoder(categories={'a': ['b']})")
    assert "sets" in refusal("OneHotEncoder({'a': ['b']})")
    assert built("OneHotEncoder(categories=None)")


# -- Select


@pytest.mark.parametrize("name", ["Select", "compose.Select", "river.compose.Select"])
def test_select_is_ours(name: str) -> None:
    assert type(built(f"{name}('b', 'a')")) is Select


def test_select_keeps_the_order_in_which_it_is_written() -> None:
    select = Select("b", "a", "c", "b")
    assert list(select.transform_one({"a": 1, "b": 2, "c": 3, "d": 4})) == ["b", "a", "c"]
    assert select.transform_one({"c": 3}) == {"c": 3}


def test_select_is_a_transformer_like_rivers() -> None:
    select = Select("b", "a")
    for twin in (select.clone(), pickle.loads(pickle.dumps(select)), built(repr(select))):
        assert twin.keys == ("b", "a")
    assert str(select) == "['b', 'a']"
    model = built("Select('a', 'b') | StandardScaler() | LogisticRegression()")
    model.learn_one({"b": 1.0, "a": 2.0, "c": "text"}, True)
    assert set(model.predict_proba_one({"b": 1.0, "a": 2.0})) == {True, False}
    assert str(model.clone()) == str(model)


def test_select_takes_text_only() -> None:
    assert "names of features as strings" in refusal("Select(1)")


# -- models, metrics, detectors


def test_models_metrics_and_detectors_are_told_apart() -> None:
    assert isinstance(make_detector("binary.DDM()", {}, 1), base.BinaryDriftDetector)
    assert isinstance(make_metric("MacroF1", {}), metrics.MacroF1)
    with pytest.raises(ExpressionError, match="is not a model"):
        make_model("Accuracy()", {}, 1)
    with pytest.raises(ExpressionError, match="is not a metric"):
        make_metric("ADWIN()", {})
    with pytest.raises(ExpressionError, match="is not a drift detector"):
        make_detector("GaussianNB()", {}, 1)


def test_roc_auc_is_ours() -> None:
    assert type(make_metric("ROCAUC", {})) is ROCAUC
    assert METRICS.find("AveragePrecision").__module__ == "driftline.core.river.curve"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("package.module:make", True), ("m:f", True), ("LogisticRegression()", False), ("a:b()", False), ("a: b", False)],
)
def test_what_is_a_factory(text: str, expected: bool) -> None:
    assert is_factory(text) is expected
