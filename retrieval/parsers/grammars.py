"""Where functions, classes and methods begin in source code, by tree-sitter's grammars; broken code is no hindrance."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import tree_sitter
import tree_sitter_bash
import tree_sitter_c
import tree_sitter_cpp
import tree_sitter_go
import tree_sitter_java
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_ruby
import tree_sitter_rust
import tree_sitter_typescript
from tree_sitter import Node

from retrieval.parsers.parsed import Mark

_GRAMMARS: dict[str, Callable[[], object]] = {
    "text/x-python": tree_sitter_python.language,
    "text/javascript": tree_sitter_javascript.language,
    "text/x-typescript": tree_sitter_typescript.language_typescript,
    "text/x-tsx": tree_sitter_typescript.language_tsx,
    "text/x-go": tree_sitter_go.language,
    "text/x-java": tree_sitter_java.language,
    "text/x-c": tree_sitter_c.language,
    "text/x-c++": tree_sitter_cpp.language,
    "text/x-rust": tree_sitter_rust.language,
    "text/x-ruby": tree_sitter_ruby.language,
    "text/x-sh": tree_sitter_bash.language,
}
_FUNCTIONS = frozenset(
    "function_definition function_declaration generator_function_declaration function_signature function_item method "
    "singleton_method method_definition method_declaration constructor_declaration macro_definition".split()
)
_GROUPS = frozenset(  # which have definitions of their own in them
    "class_definition class_declaration abstract_class_declaration interface_declaration enum_declaration "
    "annotation_type_declaration record_declaration internal_module class_specifier struct_specifier "
    "namespace_definition struct_item enum_item union_item trait_item impl_item mod_item class module type_spec "
    "type_alias_declaration".split()
)
_WRAPPERS = frozenset(  # a definition begins with them: decorators, `export`, `template <...>`, `type`, `const`
    "decorated_definition export_statement template_declaration type_declaration lexical_declaration "
    "variable_declaration".split()
)
_PASSED = _WRAPPERS | frozenset(
    "block body_statement class_body declaration_list field_declaration_list interface_body enum_body "
    "enum_body_declarations statement_block linkage_specification preproc_if preproc_ifdef preproc_else if_statement "
    "ERROR expression_statement variable_declarator".split()
)
_FUNCTION_VALUES = frozenset(("arrow_function", "function_expression", "class"))
_DEEPEST = 20  # groups within groups; what is deeper belongs to the group around it
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class _Definition:
    first_row: int
    last_row: int
    level: int
    name: str


def outline(media_type: str, text: str) -> list[Mark]:
    """Where definitions begin, with decorators and comments above them, and where what is around them goes on."""
    data = text.encode()
    tree = tree_sitter.Parser(_language(media_type)).parse(data)
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    found = sorted(_definitions(tree.root_node), key=lambda each: (each.first_row, each.level))
    marks: dict[int, Mark] = {}
    around: list[_Definition] = []
    for definition in found:
        _go_on(marks, around, definition.first_row, text, starts)
        marks.setdefault(definition.first_row, (starts[definition.first_row], definition.level, definition.name))
        around.append(definition)
    _go_on(marks, around, len(starts), text, starts)
    return [marks[row] for row in sorted(marks)]


def _go_on(marks: dict[int, Mark], around: list[_Definition], row: int, text: str, starts: Sequence[int]) -> None:
    """Close definitions that ended before `row`; what stands between them and there belongs to what is around them."""
    while around and around[-1].last_row < row:
        ended = around.pop()
        following = ended.last_row + 1
        limit = min(row, around[-1].last_row + 1 if around else row, len(starts) - 1)
        while following < limit and _says_nothing(text[starts[following] : starts[following + 1]]):
            following += 1
        if following < limit:
            outer = (around[-1].level, around[-1].name) if around else (1, "")
            marks.setdefault(following, (starts[following], *outer))


def _says_nothing(line: str) -> bool:
    """Blank, or the end of what began above."""
    return line.strip() == "end" or not any(char.isalnum() for char in line)


@lru_cache(maxsize=len(_GRAMMARS))
def _language(media_type: str) -> tree_sitter.Language:
    return tree_sitter.Language(_GRAMMARS[media_type]())


def _definitions(root: Node) -> Iterator[_Definition]:
    """Walk groups without recursion, and leave the insides of functions alone."""
    stack: list[tuple[Node, int, int | None]] = [(root, 1, None)]  # a node, the level in it, where its wrapper begins
    while stack:
        parent, level, wrapped = stack.pop()
        above = -1  # the row in which comments begin that reach down to the node
        row = -1  # in which they end
        for node in parent.named_children:
            begins = node.start_point[0]
            if row + 1 < begins:
                above = -1
            if "comment" in node.type or node.type == "attribute_item":
                above, row = begins if above < 0 else above, node.end_point[0]
                continue
            first = wrapped if wrapped is not None else begins if above < 0 else above
            above = -1
            name = _name(node)
            if name and level <= _DEEPEST:
                yield _Definition(first, node.end_point[0], level, name)
                body = node.child_by_field_name("body")
                if node.type in _GROUPS:
                    stack.append((body or node, level + 1, None))
            elif node.type in _PASSED:
                stack.append((node, level, first if node.type in _WRAPPERS else None))


def _name(node: Node) -> str:
    """What a definition defines; empty for any other node."""
    if node.type == "variable_declarator":
        value = node.child_by_field_name("value")
        if value is None or value.type not in _FUNCTION_VALUES:
            return ""
    elif node.type not in _FUNCTIONS and node.type not in _GROUPS:
        return ""
    if node.type in ("struct_specifier", "class_specifier") and node.child_by_field_name("body") is None:
        return ""  # a type that is only named
    found = node.child_by_field_name("type" if node.type == "impl_item" else "name")
    if found is None:  # in C the name stands within pointers, parameters and the like
        found = node.child_by_field_name("declarator")
        while found is not None and (inner := found.child_by_field_name("declarator")) is not None:
            found = inner
    text = found.text if found is not None else None
    return " ".join(text.decode(errors="replace").split())[:_LONGEST_NAME] if text else ""
