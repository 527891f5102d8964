"""Schemas, expressions and grammars of callers: what clients really send passes, and what breaks engines does not."""

import enum
import time
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator, Draft7Validator, Draft202012Validator
from jsonschema.exceptions import SchemaError
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Field

from api.errors import RequestInvalid
from api.fields import CHAT_FIELDS, COMPLETION_FIELDS, MESSAGE_FIELDS, RESPONSE_FIELDS, sort_fields
from api.shapes.bounds import MAX_DEPTH, MAX_EXPRESSION, MAX_EXPRESSIONS, MAX_GRAMMAR, MAX_VALUES
from api.shapes.shapes import check_shapes

MOST_S = 0.5  # of a processor, a hundred times what is needed


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Node(BaseModel):
    """A tree."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)]
    colour: Colour = Colour.RED
    kind: Literal["leaf", "branch"]
    made: date
    weight: Annotated[float, Field(gt=0, le=10, multiple_of=0.5)]
    tags: dict[str, int | None] = {}
    pair: tuple[int, str] = (1, "a")
    children: Annotated[list["Node"], Field(max_length=9)] = []


class Step(BaseModel):
    explanation: str
    output: str | None
    of: Colour | Node | list[Colour]


class Maths(BaseModel):
    steps: list[Step]
    final_answer: Annotated[int, Field(ge=0, le=2**53)]


JSON_VALUE = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.com/any.json",
    "$defs": {"any": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/$defs/any"}}, True]}},
    "$ref": "#/$defs/any",
}
OF_ZOD = {  # as zod-to-json-schema and MCP servers write them
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "mail": {"type": "string", "pattern": r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[\w+-]@([a-z]+\.)+[a-z]{2,}$"},
        "name": {"type": "string", "pattern": r"^\p{Lu}[\p{L}\u00C0-\u{1F600}\-/]*$", "default": None, "title": 7},
        "when": {"type": "string", "pattern": r"^(?<year>\d{4})-\k<year>\/[[\]]$", "format": "date"},
        "pair": {"type": "array", "items": [{"type": "number"}, {"type": ["string", "null"]}], "additionalItems": True},
        "old": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "nullable": True, "maxLength": 3.0},
        "self": {"$ref": "#/properties/pair/items/0"},
        "above": {"$ref": "#"},
        "$ref": {"type": "string"},
        "type": {"type": "string"},
        "pattern": {"const": "("},
    },
    "patternProperties": {"^x-": {}},
    "dependencies": {"mail": ["name"], "name": {"required": ["mail"]}},
    "required": [],
    "additionalProperties": {},
    "x-order": [["any", {"type": "nonsense"}]],
}  # fmt: skip
ANCHORED = {"$defs": {"a": {"$anchor": "here", "type": "null"}}, "items": {"$ref": "#here"}, "enum": [{"type": 1}]}
ESCAPED = {"$defs": {"a/b~c d": {"type": "null"}}, "not": {"$ref": "#/$defs/a~1b~0c%20d"}}
GOOD: dict[str, dict[str, Any]] = {
    "pydantic": Maths.model_json_schema(),
    "the SDK's": to_strict_json_schema(Maths),
    "recursive": to_strict_json_schema(Node),
    "any": JSON_VALUE,
    "zod's": OF_ZOD,
    "anchored": ANCHORED,
    "escaped": ESCAPED,
    "nothing": {},
    "no parameters": {"type": "object", "properties": {}},
    "booleans": {"properties": {"a": True, "b": False}, "if": True, "then": {"minLength": 1}},
    "wide": {"type": "object", "properties": {f"p{at}": {"type": "string"} for at in range(5000)}},
}


def ways(schema: Any) -> dict[str, tuple[dict[str, Any], frozenset[str]]]:
    """A schema in every field that takes one, by the name that a refusal begins with."""
    named = {"name": "f", "strict": True, "schema": schema}
    function = {"name": "f", "parameters": schema}
    tag = {
        "type": "structural_tag",
        "format": {"type": "tag", "content": {"type": "json_schema", "json_schema": schema}},
    }
    return {
        "response_format.json_schema.schema": (
            {"response_format": {"type": "json_schema", "json_schema": named}}, CHAT_FIELDS | COMPLETION_FIELDS,
        ),
        "response_format.format.content.json_schema": ({"response_format": tag}, CHAT_FIELDS),
        "structured_outputs.json": ({"structured_outputs": {"json": schema}}, CHAT_FIELDS & COMPLETION_FIELDS),
        "tools[1].function.parameters": (
            {"tools": [{"type": "x"}, {"type": "function", "function": function}]}, CHAT_FIELDS,
        ),
        "functions[0].parameters": ({"functions": [function]}, CHAT_FIELDS),
        "tools[0].input_schema": ({"tools": [{"name": "f", "input_schema": schema}]}, MESSAGE_FIELDS),
        "output_config.format.schema": (
            {"output_config": {"format": {"type": "json_schema", "schema": schema}}}, MESSAGE_FIELDS,
        ),
        "tools[0].parameters": ({"tools": [{"type": "function", **function}]}, RESPONSE_FIELDS),
        "text.format.schema": ({"text": {"format": {"type": "json_schema", **named}}}, RESPONSE_FIELDS),
    }  # fmt: skip


def outputs(**asked: Any) -> dict[str, Any]:
    return {"structured_outputs": asked}


def refused(body: dict[str, Any]) -> str | None:
    """The field that is refused; None: the body passes."""
    try:
        check_shapes(body)
    except RequestInvalid as error:
        found = error
    else:
        return None
    assert found.param is not None
    assert str(found).startswith(found.param)
    return found.param


@pytest.mark.parametrize("name", GOOD)
def test_schemas_of_real_clients_pass_unharmed(name: str) -> None:
    for body, fields in ways(GOOD[name]).values():
        assert refused(body) is None
        passed, ignored = sort_fields(body, fields)
        assert (passed, ignored) == (body, [])
        assert next(iter(passed.values())) is next(iter(body.values()))


BAD: list[tuple[Any, str]] = [
    (7, ""),
    ([], ""),
    (True, ""),
    ({"type": "int"}, "type"),
    ({"type": "any"}, "type"),
    ({"type": ["string", "string"]}, "type"),
    ({"type": []}, "type"),
    ({"type": {}}, "type"),
    ({"type": [{}]}, "type"),
    ({"type": None}, "type"),
    ({"properties": []}, "properties"),
    ({"properties": {"a": {"type": "object", "properties": {"b": {"type": "str"}}}}}, "properties.a.properties.b.type"),
    ({"properties": {"a": "string"}}, "properties.a"),
    ({"items": "string"}, "items"),
    ({"items": [{"type": "x"}]}, "items[0].type"),
    ({"anyOf": {}}, "anyOf"),
    ({"anyOf": []}, "anyOf"),
    ({"allOf": [None]}, "allOf[0]"),
    ({"not": 7}, "not"),
    ({"required": True}, "required"),
    ({"required": [1]}, "required"),
    ({"dependentRequired": {"a": {}}}, "dependentRequired.a"),
    ({"enum": "a"}, "enum"),
    ({"enum": []}, "enum"),
    ({"minLength": -1}, "minLength"),
    ({"maxItems": 1.5}, "maxItems"),
    ({"maxItems": 2**31}, "maxItems"),
    ({"minItems": True}, "minItems"),
    ({"minLength": float("inf")}, "minLength"),
    ({"minimum": "0"}, "minimum"),
    ({"multipleOf": 0}, "multipleOf"),
    ({"uniqueItems": 1}, "uniqueItems"),
    ({"format": 1}, "format"),
    ({"pattern": "("}, "pattern"),
    ({"pattern": 7}, "pattern"),
    ({"pattern": None}, "pattern"),
    ({"pattern": "a" * (MAX_EXPRESSION + 1)}, "pattern"),
    ({"patternProperties": {"[": {}}}, "patternProperties"),
    ({"additionalProperties": {"pattern": "foo**"}}, "additionalProperties.pattern"),
    ({"$ref": "http://169.254.169.254/latest"}, "$ref"),
    ({"$ref": "file:///etc/passwd#/a"}, "$ref"),
    ({"$ref": "other.json"}, "$ref"),
    ({"$ref": "#/$defs/a"}, "$ref"),
    ({"$ref": "#/" + "/".join("a" * 100)}, "$ref"),
    ({"$ref": "#nowhere"}, "$ref"),
    ({"$ref": "#other/$defs/a", "$defs": {"a": {}}}, "$ref"),
    ({"$ref": "other.json/$defs/a", "$defs": {"a": {}}}, "$ref"),
    ({"$ref": 7}, "$ref"),
    ({"$defs": {"a": [{}]}, "$ref": "#/$defs/a/1"}, "$defs.a"),
    ({"items": {"$ref": "#/x/1"}, "x": [{}]}, "items.$ref"),
    ({"items": {"$ref": "#/x/y"}, "x": {"y": {"type": "str"}}}, "items.$ref.type"),
    ({"$ref": "#"}, ""),
    ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}}, "$defs."),
    ({"anyOf": [{"type": "string"}, {"$ref": "#"}]}, ""),
]


@pytest.mark.parametrize(("schema", "where"), BAD)
def test_what_is_no_schema_is_refused_and_named_in_every_field(schema: Any, where: str) -> None:
    for place, (body, fields) in ways(schema).items():
        if isinstance(schema, bool) and "format.content" in place:
            continue  # xgrammar's way to say that anything will do
        with pytest.raises(RequestInvalid) as caught:
            sort_fields(body, fields)
        assert caught.value.param is not None
        assert caught.value.param.startswith(f"{place}.{where}" if where else place), (place, caught.value.param)


def nested(levels: int, word: str = "not") -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {word: schema}
    return schema


def test_depth_and_number_of_values_are_bounded_for_the_whole_request() -> None:
    for word in ("not", "items", "x-unknown"):
        assert refused(outputs(json=nested(MAX_DEPTH - 1, word))) is None
        assert refused(outputs(json=nested(MAX_DEPTH, word))) is not None
        assert refused(outputs(json=nested(100_000, word))) is not None
    half = {"enum": list(range(MAX_VALUES // 2))}
    tools = [{"name": "f", "input_schema": half}]
    assert refused({"tools": tools}) is None
    assert refused({"tools": tools * 3}) == "tools[1].input_schema.enum"
    for schema in (
        {"default": [[]] * MAX_VALUES},
        {"required": ["a"] * MAX_VALUES},
        {"anyOf": [{}] * MAX_VALUES},
        {"properties": {f"{at}": True for at in range(MAX_VALUES)}},
        {f"{at}": at for at in range(MAX_VALUES)},
        {"enum": ["a" * 1000] * 200},
        {"properties": {f"{at:01000}": {} for at in range(200)}},
    ):
        assert refused(outputs(json=schema)) is not None
    assert refused(outputs(choice=["a"] * MAX_VALUES * 2)) == "structured_outputs.choice"


@pytest.mark.parametrize(
    "expression",
    [
        r"\d{3}-\d{4}", "(a|b)+c?", "[^]a]", r"^\p{L}+\u{1F600}?$", "(?<y>a)(?=b)(?<!c)", r"\cA\/\-\z", "[[a]&&b]",
        "[a-é]",        "^.{0,2000}$", "(?i:yes|no)", r"[\x00-\uFFFF]", r"\\\(", "a{,3}", "",
    ],
)  # fmt: skip
def test_expressions_of_pythons_and_javascripts_form_pass(expression: str) -> None:
    assert refused(outputs(regex=expression)) is None
    assert refused(outputs(json={"pattern": expression, "patternProperties": {expression: {}}})) is None


@pytest.mark.parametrize(
    "expression",
    [
        "(", "a)", "[a", "foo**", "*", "a{3,1}", r"(?P<n", "(?<n>a)(?<n>b)", r"\k<none>", "[z-a]", "\\", r"(?<=a+)b",
        "a{99999999999}", "((a{100}){100}){100}", "a{20001}", ".{1,30000}", "(" * 40 + ")" * 40, "(?:" * 400,
        "a{" + "9" * 900 + "}",        "a" * (MAX_EXPRESSION + 1), 7, ["a"], {"a": 1}, False,
    ],
)  # fmt: skip
def test_what_is_no_expression_or_too_large_a_one_is_refused(expression: Any) -> None:
    assert refused(outputs(regex=expression)) == "structured_outputs.regex"
    assert refused(outputs(whitespace_pattern=expression)) == "structured_outputs.whitespace_pattern"
    assert refused(outputs(json={"pattern": expression})) == "structured_outputs.json.pattern"
    tag = {"type": "structural_tag", "format": {"type": "regex", "pattern": expression}}
    assert refused({"response_format": tag}) == "response_format.format.pattern"
    tool = {"type": "custom", "name": "f", "format": {"type": "grammar", "syntax": "regex", "definition": expression}}
    assert refused({"tools": [tool]}) == "tools[0].format.definition"


def test_all_expressions_of_a_request_are_bounded_together_and_each_counts_once() -> None:
    long = ["a" * 900 + f"{at:03}" for at in range(20)]
    assert refused(outputs(json={"anyOf": [{"pattern": long[0]} for _ in range(1000)]})) is None
    assert len("".join(long)) > MAX_EXPRESSIONS
    assert refused(outputs(json={"anyOf": [{"pattern": one} for one in long]})) is not None


@pytest.mark.parametrize(
    "value", ["", "   ", 7, {}, "a" * (MAX_GRAMMAR + 1), 'root ::= ("a" ' + "(" * 70, "root ::= " + "(" * 30_000]
)
def test_a_grammar_is_a_text_of_bounded_length_and_depth(value: Any) -> None:
    assert refused(outputs(grammar=value)) == "structured_outputs.grammar"
    tool = {"type": "custom", "custom": {"name": "f", "format": {"type": "grammar", "grammar": {"definition": value}}}}
    assert refused({"tools": [tool]}) == "tools[0].custom.format.grammar.definition"


def test_grammars_of_real_clients_pass() -> None:
    lines = ['root ::= "(" expr ")" | [a-z(]+', "expr ::= term (('+' | \"-\") term)*", 'term ::= "\\"(" | "[" | ")"']
    assert refused(outputs(grammar="\n".join(lines))) is None
    assert refused(outputs(grammar="start: " + '"(" ' * 1000)) is None


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (outputs(json="{"), "structured_outputs.json"),
        (outputs(json="[1]"), "structured_outputs.json"),
        (outputs(json='{"type": "nope"}'), "structured_outputs.json.type"),
        (outputs(json=" " * (MAX_GRAMMAR + 1)), "structured_outputs.json"),
        (outputs(choice="a"), "structured_outputs.choice"),
        (outputs(choice=[]), "structured_outputs.choice"),
        (outputs(choice=["a", ""]), "structured_outputs.choice"),
        (outputs(choice=["a", 1]), "structured_outputs.choice"),
        (outputs(structural_tag="["), "structured_outputs.structural_tag"),
        (outputs(structural_tag=7), "structured_outputs.structural_tag"),
        (
            outputs(structural_tag='{"structures": [{"begin": "<f>", "schema": {"type": "x"}, "end": "</f>"}]}'),
            "structured_outputs.structural_tag.structures[0].schema.type",
        ),
        ({"structured_outputs": "json"}, "structured_outputs"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": "a"}}, "response_format.json_schema"),
        ({"response_format": {"type": "structural_tag", "triggers": nested(300)}}, "response_format"),
    ],
)  # fmt: skip
def test_what_else_shapes_an_answer_is_looked_at(body: dict[str, Any], where: str) -> None:
    found = refused(body)
    assert found is not None
    assert found.startswith(where)


@pytest.mark.parametrize(
    "body",
    [
        outputs(json='{"type": "object"}'),
        outputs(choice=["yes", "no"], regex=None),
        outputs(json_object=True),
        outputs(structural_tag='{"type": "structural_tag", "format": {"type": "json_schema", "json_schema": true}}'),
        {"response_format": {"type": "json_object"}, "tools": None, "functions": None, "structured_outputs": None},
        {"response_format": {"type": "text"}, "tools": [{"type": "web_search"}], "text": {"verbosity": "low"}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": None}}], "output_config": {}},
    ],
)
def test_what_needs_no_look_passes(body: dict[str, Any]) -> None:
    assert refused(body) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
WORDS = """type properties patternProperties $defs definitions items prefixItems anyOf allOf oneOf not if then else enum
const required pattern format minLength maxItems minimum exclusiveMinimum multipleOf uniqueItems $ref $anchor $id
additionalProperties dependencies dependentRequired dependentSchemas $dynamicRef contains""".split()
VALUES = st.sampled_from(
    ["string", "object", "nope", "#", "#/$defs/a", "#a", "(", "^a+$", 0, -1, 1.5, True, None, [], {}, ["a"]]
)
WILD = st.recursive(
    VALUES | JSON,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*WORDS, "a"]), inner, max_size=3),
    max_leaves=8,
)
FIELDS = """type json_schema schema format json regex choice grammar structural_tag structures parameters input_schema
function pattern whitespace_pattern custom definition syntax name""".split()
OUTER = st.recursive(
    WILD,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=4,
)
SHAPING = "response_format structured_outputs tools functions output_config text".split()


@settings(max_examples=400)
@given(st.dictionaries(st.sampled_from(SHAPING), OUTER, min_size=1, max_size=2))
@example({"response_format": {"schema": {"minLength": float("nan")}}})
@example({"structured_outputs": {"json": '{"pattern": "\\ud800"}', "regex": "\ud800(", "grammar": "\ud800"}})
def test_no_input_makes_it_raise_anything_but_its_refusal(body: dict[str, Any]) -> None:
    refused(body)


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("()[]{}|?*+^$\\.-,:=!<>PiksuxpLAb019é\U0001f600&~"), max_size=80))
def test_no_expression_makes_it_raise_anything_but_its_refusal(text: str) -> None:
    refused(outputs(regex=text, grammar=text + "."))


def is_valid(schema: Any) -> bool:
    """Whether it is a schema by the meta schema of some draft."""
    for draft in (Draft202012Validator, Draft7Validator, Draft4Validator):
        try:
            draft.check_schema(schema)
        except SchemaError:
            continue
        return True
    return False


SOUND = """type properties patternProperties $defs items prefixItems anyOf allOf oneOf not if then else enum const
required minLength maxItems minimum multipleOf uniqueItems additionalProperties dependentRequired contains""".split()
SCHEMAS = st.recursive(
    st.sampled_from(["string", "object", "nope", 0, -1, 1.5, True, False, None, [], {}, ["a"], ["a", "a"], ["null"]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(SOUND), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=500)
@given(st.dictionaries(st.sampled_from(SOUND), SCHEMAS, max_size=4))
def test_what_passes_is_a_schema_by_the_meta_schema_and_the_other_way_round(schema: dict[str, Any]) -> None:
    passes = refused(outputs(json=schema)) is None
    if passes:
        assert is_valid(schema)
    elif '"enum": []' not in str(schema).replace("'", '"'):  # which nothing can fulfil
        assert not Draft202012Validator(Draft202012Validator.META_SCHEMA).is_valid(schema)


SLOW_TO_COMPILE = "(?i)" + r"[\x00-\uffff]" * 70
HEAVY: dict[str, Callable[[], dict[str, Any]]] = {
    "wide sets without case": lambda: outputs(regex=SLOW_TO_COMPILE),
    "the same, written out": lambda: outputs(regex="(?i)" + "[\x00-\U0010ffff]" * 190),
    "many of them": lambda: outputs(json={"anyOf": [{"pattern": SLOW_TO_COMPILE + str(at)} for at in range(10)]}),
    "alternatives": lambda: outputs(json={"anyOf": [{"pattern": "a|" * 490 + str(at)} for at in range(10)]}),
    "open sets": lambda: outputs(regex="[\\" * 500),
    "open quotes": lambda: outputs(grammar='"\\' * 25_000),
    "a long chain": lambda: outputs(json={"$defs": {f"{at}": {"$ref": f"#/$defs/{at - 1}"} for at in range(1, 6000)}}),
    "long references": lambda: outputs(json={"anyOf": [{"$ref": "#" + "/a" * 490} for _ in range(5000)]}),
    "many values": lambda: outputs(json={"enum": list(range(10**6))}),
}


@pytest.mark.parametrize("name", HEAVY)
def test_nothing_takes_it_long(name: str) -> None:
    body = HEAVY[name]()
    began_s = time.process_time()
    refused(body)
    assert time.process_time() - began_s < MOST_S


def test_a_request_without_such_fields_costs_one_look_at_its_names() -> None:
    class Watched(dict[str, Any]):
        def get(self, *_: Any) -> Any:
            raise AssertionError("it was looked into")

        __getitem__ = get

    check_shapes(Watched(model="m", messages=[], max_tokens=3, temperature=0, stream=True))
