"""Where chat templates run, which are programs of strangers: they reach what they are given, and have only so much.

Jinja2's own sandbox keeps a template from everything but its messages. It does not keep it from counting for hours, in
loops in loops, or from a text that doubles forty times. So here a template has a budget of steps, and pays

    1 + length of its source / 100    for each turn of a loop, and each call: what is run between two of them is source
    1 + size / 50                     for what it makes, compares or writes
    product of 1 + size / 50          over all that a filter, a test or a method is given, before it runs: for each
                                      element of a list they may go through the whole of another, or write it

where the size of a text is its length, and that of a list or a dict counts all that it leads to, as often as it does:
to write a list of two lists of two lists ... is long work, however little of it is stored. What would be too late when
it is paid for is checked before (a text times n) or is not there (powers, formatting, most of Jinja2's filters).

A budget in seconds would need a second process, and refuse on one machine what another runs; this one gives the same
everywhere. Chat templates as they are published take a hundredth of it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Sequence, ValuesView
from typing import Any

from jinja2 import nodes
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from minilm.errors import CheckpointError

LONGEST_SOURCE = 50_000  # characters; published templates have up to about 20,000
STEPS, STEPS_OF_A_MESSAGE = 1_000_000, 20_000  # the budget: seconds, at the most
LONGEST = 200_000  # the size of anything; and twice the size of the messages
LONGEST_NUMBER = 256  # bits
OF_A_LIST, OF_AN_ELEMENT = 200, 20  # their sizes, without what the elements lead to
OF_TEXTS = ("strip", "lstrip", "rstrip", "split", "startswith", "endswith", "lower", "upper", "title", "capitalize")
FILTERS = (
    *("abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "int", "items"),
    *("join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse"),
    *("safe", "select", "selectattr", "sort", "string", "title", "tojson", "trim", "unique", "upper"),
)
AT_ONCE = ("count", "d", "default", "first", "last", "length")  # filters that take no longer for what is longer
PAID, TURNS = "minilm paid", "minilm turns"  # filters that are put around parts of a template


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's environment for one template, which is rendered once: what is paid is gone."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, optimized=False)
        self.left, self.step, self.longest = STEPS, 1, LONGEST
        self._sizes: dict[int, tuple[Any, int]] = {}  # by id; with the thing itself, which must live for its id to last
        filters: dict[str, Any] = {name: self.filters[name] for name in FILTERS}
        priced = {name: self._priced(function) for name, function in filters.items() if name not in AT_ONCE}
        self.filters = filters | priced | {PAID: self.paid, TURNS: self._turns}
        tests: dict[str, Any] = self.tests
        self.tests = {name: self._priced(test) for name, test in tests.items()}
        self.globals = {"range": self.globals["range"], "dict": dict, "namespace": _Namespace}
        self.globals["raise_exception"] = _raise_exception
        self.finalize = self.paid  # what is written goes through it

    def render(self, source: str, messages: Sequence[Any], **variables: Any) -> str:
        """The text that the template `source` makes of the messages and variables.

        Raises:
            CheckpointError: if it wants what it may not have.
            Exception: whatever else Jinja2 and Python say of a program that is none.
        """
        if len(source) > LONGEST_SOURCE:
            raise CheckpointError(f"the model's chat template has {len(source):,} characters: no template is that long")
        self.left += len(messages) * STEPS_OF_A_MESSAGE
        self.step = 1 + len(source) // 100
        self.longest += 2 * self._size(messages)
        tree = _Prices().visit(self.parse(source))
        template = self.template_class.from_code(self, self.compile(tree), self.make_globals(None))
        return str(template.render(messages=messages, **variables))

    # ----- what things cost

    def _pay(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise CheckpointError(
                "the model's chat template does too much, and minilm has stopped it: it might go on for hours"
            )

    def paid(self, value: Any) -> Any:
        """The value, paid for."""
        self._pay(1 + self._allowed(self._size(value)) // 50)
        return value

    def _allowed(self, size: int) -> int:
        if size > self.longest:
            raise CheckpointError(
                f"the model's chat template makes something of the size {size:,}: minilm lets up to {self.longest:,} be"
            )
        return size

    def _size(self, value: Any) -> int:
        if isinstance(value, str):
            return len(value)
        if isinstance(value, range):
            return OF_A_LIST + OF_AN_ELEMENT * len(value)
        if isinstance(value, int):
            if value.bit_length() > LONGEST_NUMBER:
                raise CheckpointError(f"the model's chat template makes a number of {value.bit_length():,} bits")
            return 1
        if not isinstance(value, list | tuple | dict | KeysView | ValuesView | ItemsView):
            return 1
        if id(value) not in self._sizes:
            parts = [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)
            size = OF_A_LIST + sum(OF_AN_ELEMENT + self._size(part) for part in parts)
            self._sizes[id(value)] = value, size
        return self._sizes[id(value)][1]

    def _turns(self, iterable: Iterable[Any]) -> Iterator[Any]:
        """What a loop goes through."""
        for item in iterable:
            self._pay(self.step)
            yield item

    def concat(self, pieces: Iterable[str]) -> str:
        """What Jinja2 joins all that is written with; there it is "".join."""
        kept, size = [], 0
        for piece in pieces:
            size = self._allowed(size + len(piece))
            kept.append(piece)
        return str(self.paid("".join(kept)))

    def _run(self, function: Callable[..., Any], own: Any, values: Iterable[Any], named: dict[str, Any]) -> Any:
        """function(*values, **named), paid for before and after; `own` is what it is a method of."""
        values = [list(value) if isinstance(value, Iterator) else value for value in values]
        factors = [abs(v) if isinstance(v, int) else self._size(v) for v in (own, *values, *named.values())]
        price = math.prod(1 + factor // 50 for factor in factors)
        self._allowed(50 * (price - 1))
        self._pay(price)
        result = function(*values, **named)
        return self._turns(result) if isinstance(result, Iterator) else self.paid(result)

    def _priced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)  # with Jinja2's marks of what it wants to be given
        def priced(*values: Any, **named: Any) -> Any:
            return self._run(function, None, values, named)

        return priced

    # ----- what Jinja2 asks, while it runs a template

    def call(self, context: Any, function: Any, *values: Any, **named: Any) -> Any:
        """A call of whatever a template may call."""
        self._pay(self.step)
        call = functools.partial(super().call, context, function)
        if isinstance(function, Macro):
            return call(*values, **named)
        return self._run(call, getattr(function, "__self__", None), values, named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic, but nothing that grows without bound: "x" * 10**10, 9**9**9, "%999999999d" % 1."""
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "*" and not numbers:
            text, times = (left, right) if isinstance(right, int) else (right, left)
            numbers = isinstance(times, int) and self._size(text) * times <= self.longest
        if operator == "**" or (operator != "+" and not numbers):
            raise CheckpointError(f"the model's chat template uses {operator!r} in a way that minilm does not run")
        self.paid(left)
        self.paid(right)
        return self.paid(super().call_binop(context, operator, left, right))

    def is_safe_attribute(self, owner: Any, name: str, value: Any) -> bool:
        """Of texts only what cannot make them long ("{:999999999}".format(1)), and nothing of numbers."""
        if isinstance(owner, str):
            return name in OF_TEXTS
        return not isinstance(owner, int | float) and super().is_safe_attribute(owner, name, value)

    def wrap_str_format(self, value: Any) -> None:
        """No formatting, not even in the careful way of Jinja2's, which would be asked before the method above."""


class _Prices(NodeTransformer):
    """Puts the filters PAID and TURNS around what Jinja2 would do by itself, without asking its environment."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _through(TURNS, node.iter)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _through(PAID, node.expr)
        for operand in node.ops:
            operand.expr = _through(PAID, operand.expr)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_through(PAID, part) for part in node.nodes]
        return _through(PAID, node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _through(PAID, node) if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") == "store" else _through(PAID, node)

    visit_Tuple = visit_Dict = visit_List


def _through(name: str, node: Any) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Namespace(Namespace):
    def __repr__(self) -> str:
        """Without what is in it, which may be the namespace itself."""
        return "namespace"


def _raise_exception(message: Any) -> None:
    """What templates call when the conversation is not as they want it."""
    raise CheckpointError(f"the model's chat template refuses the conversation: {str(message)[:500]}")
