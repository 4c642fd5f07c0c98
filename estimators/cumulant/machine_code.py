"""Entrywise formulas as machine code, by LLVM (`entrywise`)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

Array = NDArray[Any]

INDEX = ir.IntType(64)
_numbers = count()
TYPES = {np.dtype(np.float32): ir.FloatType(), np.dtype(np.float64): ir.DoubleType()}


Operator = Callable[["Entry", Any], "Entry"]


def _operators(instruction: str) -> tuple[Operator, Operator]:
    """An operator that adds this instruction, and the one for the other order."""

    def forward(a: Entry, b: Any) -> Entry:
        return Entry(a.code, getattr(a.code, instruction)(a.value, a.of(b)))

    def backward(b: Entry, a: Any) -> Entry:
        return Entry(b.code, getattr(b.code, instruction)(b.of(a), b.value))

    return forward, backward


class Entry:
    """An entry of a matrix: its arithmetic adds instructions to a block of code."""

    def __init__(self, code: ir.IRBuilder, value: ir.Value) -> None:
        self.code, self.value = code, value

    def of(self, other: Any) -> ir.Value:
        """The value of an entry, or a number in the type of this one, as NumPy takes it."""
        if isinstance(other, Entry):
            return other.value
        return ir.Constant(self.value.type, float(other))

    __add__, __radd__ = _operators("fadd")
    __sub__, __rsub__ = _operators("fsub")
    __mul__, __rmul__ = _operators("fmul")
    __truediv__, __rtruediv__ = _operators("fdiv")

    def __neg__(self) -> Entry:
        return Entry(self.code, self.code.fneg(self.value))


@dataclass(frozen=True)
class Kernel:
    """A compiled formula, with the number of its results and whether they are a tuple.

    Call it with its first and last row, the rows of a matrix, its columns, `steps` and the address
    of every result and argument. Rows of a batch of matrices count on from input to input.
    """

    code: Callable[..., None]
    results: int
    several: bool

    def __call__(self, *given: Any) -> None:
        self.code(*given)

    def steps(self, arguments: Sequence[tuple[tuple[int, ...], tuple[int, ...], Any]]) -> Any:
        """The entries from input to input and from row to row of arguments, 0 where all are one.

        Arguments are given as shape, strides and type.
        """
        found = list[int]()
        for shape, strides, dtype in arguments:
            axes = list(zip(shape, strides, strict=True))[:-1]
            steps = [0 if length == 1 else stride // dtype.itemsize for length, stride in axes]
            found += [*[0] * (2 - len(steps)), *steps]
        return (ctypes.c_int64 * len(found))(*found)


def compiled_formula(
    formula: Callable[..., Any], kinds: Sequence[str | None], dtype: np.dtype[Any]
) -> Kernel:
    """The formula for arguments of these kinds: "matrix", "column" or None.

    Two loops go through the rows of all inputs and the columns; LLVM computes several columns at
    once. Pointers are `noalias`: results are new arrays.
    """
    number = TYPES[dtype]
    pointer = number.as_pointer()
    results, several, _ = _outline(formula, kinds)
    arguments = sum(kind is not None for kind in kinds)
    parameters = [INDEX] * 4 + [INDEX.as_pointer()] + [pointer] * (results + arguments)
    module = ir.Module()
    name = f"formula_{next(_numbers)}"
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), parameters), name)
    for parameter in function.args:
        if parameter.type != INDEX:
            parameter.add_attribute("noalias")
    first, last, rows, columns, table, *rest = function.args
    outputs, inputs = rest[:results], iter(rest[results:])

    start, by_row, by_column, next_row, end = (
        function.append_basic_block(name) for name in ("start", "row", "column", "next", "end")
    )
    code = ir.IRBuilder(start)
    steps = iter([code.load(code.gep(table, [INDEX(k)])) for k in range(2 * arguments)])
    code.cbranch(code.icmp_signed("<", first, last), by_row, end)

    code = ir.IRBuilder(by_row)
    i = code.phi(INDEX)
    i.add_incoming(first, start)
    of_batch, of_matrix = code.udiv(i, rows), code.urem(i, rows)
    entries: list[tuple[str | None, Any]] = []
    for kind in kinds:
        value = None
        if kind is not None:
            before = code.add(code.mul(of_batch, next(steps)), code.mul(of_matrix, next(steps)))
            value = code.gep(next(inputs), [before])
        entries.append((kind, code.load(value) if kind == "column" else value))
    outputs = [code.gep(output, [code.mul(i, columns)]) for output in outputs]
    code.branch(by_column)

    code = ir.IRBuilder(by_column)
    j = code.phi(INDEX)
    j.add_incoming(INDEX(0), by_row)
    found = _applied(
        formula,
        [
            value
            if kind is None
            else Entry(code, value if kind == "column" else code.load(code.gep(value, [j])))
            for kind, value in entries
        ],
    )
    for output, result in zip(outputs, found, strict=True):
        code.store(result.value, code.gep(output, [j]))
    following = code.add(j, INDEX(1))
    j.add_incoming(following, by_column)
    code.cbranch(code.icmp_signed("<", following, columns), by_column, next_row)

    code = ir.IRBuilder(next_row)
    following = code.add(i, INDEX(1))
    i.add_incoming(following, next_row)
    code.cbranch(code.icmp_signed("<", following, last), by_row, end)
    ir.IRBuilder(end).ret_void()

    types = [ctypes.c_int64 if parameter == INDEX else ctypes.c_void_p for parameter in parameters]
    address = _address(module, function.name)
    return Kernel(ctypes.CFUNCTYPE(None, *types)(address), results, several)


def operations(formula: Callable[..., Any], arguments: int) -> int:
    """The number of operations of a formula on each entry of so many arguments, none of which is
    None."""
    return _outline(formula, ["matrix"] * arguments)[-1]


def _outline(formula: Callable[..., Any], kinds: Sequence[str | None]) -> tuple[int, bool, int]:
    """The number of results of a formula, whether it returns a tuple, and its operations."""
    arguments = [ir.FloatType()] * len(kinds)
    scratch = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), arguments), "f")
    code = ir.IRBuilder(scratch.append_basic_block())
    entries = zip(kinds, scratch.args, strict=True)
    found = formula(*(None if kind is None else Entry(code, value) for kind, value in entries))
    several = isinstance(found, tuple)
    return len(found) if several else 1, several, len(code.block.instructions)


def _applied(formula: Callable[..., Any], entries: Sequence[Any]) -> tuple[Entry, ...]:
    found = formula(*entries)
    return found if isinstance(found, tuple) else (found,)


@cache
def _engine() -> llvm.ExecutionEngine:
    """The engine that holds all formulas; it owns the description of this processor."""
    engine: llvm.ExecutionEngine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    return engine


@cache
def _machine() -> llvm.TargetMachine:
    """This processor."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine: llvm.TargetMachine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    return machine


def _address(module: ir.Module, name: str) -> int:
    """The address of a function of the module, optimised and loaded into memory."""
    engine, parsed = _engine(), llvm.parse_assembly(str(module))
    builder = llvm.create_pass_builder(_machine(), _options())
    builder.getModulePassManager().run(parsed, builder)
    engine.add_module(parsed)
    engine.finalize_object()
    address: int = engine.get_function_address(name)
    return address


def _options() -> llvm.PipelineTuningOptions:
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    return options
