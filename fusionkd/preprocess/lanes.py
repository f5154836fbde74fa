"""Four numbers of a point at once: what LLVM doesn't find by itself in loops over rows of five.

Numba leaves LLVM's pass for straight-line vectors off, so a loop over the columns of one point compiles to one
instruction per number. These three functions, for kernels alone, say four lanes outright; they compile for every
processor, as LLVM splits vectors that one lacks. Like all kernels they don't check bounds: the callers do.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_INDEX = ir.IntType(64)
_FLOATS = ir.VectorType(ir.FloatType(), 4)
_DOUBLES = ir.VectorType(ir.DoubleType(), 4)
_FIFTH = ir.Constant(_INDEX, 4)


def _row(context: Any, builder: Any, array: tuple[Any, Any], index: Any) -> Any:
    """Address of a row of a two-dimensional array, given as its Numba type and value."""
    kind, value = array
    made = context.make_array(kind)(context, builder, value)
    start = builder.ptrtoint(made.data, _INDEX)
    strides: Any = cgutils.unpack_tuple(builder, made.strides)  # type: ignore[no-untyped-call]
    return builder.add(start, builder.mul(index, strides[0]))


def _lanes(builder: Any, address: Any, kind: Any) -> tuple[Any, Any]:
    """Pointers to the first four numbers of a row, and to its fifth."""
    four = builder.inttoptr(address, kind.as_pointer())
    return four, builder.gep(builder.bitcast(four, kind.element.as_pointer()), [_FIFTH])


def _load(builder: Any, pointer: Any, align: int) -> Any:
    loaded = builder.load(pointer)
    loaded.align = align
    return loaded


def _copy_point(typing: Any, target: Any, j: Any, source: Any, i: Any) -> Any:
    """``target[j, :5] = source[i, :5]`` of float32 rows."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        to, j, of, i = values
        written = _lanes(builder, _row(context, builder, (signature.args[0], to), j), _FLOATS)
        read = _lanes(builder, _row(context, builder, (signature.args[2], of), i), _FLOATS)
        loaded = [_load(builder, pointer, 4) for pointer in read]
        for value, pointer in zip(loaded, written):
            builder.store(value, pointer).align = 4
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), generate


def _add_point(typing: Any, target: Any, j: Any, source: Any, i: Any) -> Any:
    """``target[j, :5] += source[i, :5]`` of float32 rows."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        to, j, of, i = values
        written = _lanes(builder, _row(context, builder, (signature.args[0], to), j), _FLOATS)
        read = _lanes(builder, _row(context, builder, (signature.args[2], of), i), _FLOATS)
        sums = [builder.fadd(_load(builder, a, 4), _load(builder, b, 4)) for a, b in zip(written, read)]
        for value, pointer in zip(sums, written):
            builder.store(value, pointer).align = 4
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), generate


def _move_point(typing: Any, target: Any, j: Any, axes: Any, x: Any, y: Any, z: Any) -> Any:
    """``target[j, :4] = x * axes[0] + y * axes[1] + z * axes[2] + axes[3]``, from float64 rows to a float32 one."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        to, j, axes, *xyz = values
        rows = [_row(context, builder, (signature.args[2], axes), ir.Constant(_INDEX, k)) for k in range(4)]
        columns = [_load(builder, _lanes(builder, row, _DOUBLES)[0], 8) for row in rows]
        undefined, first = ir.Constant(_DOUBLES, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4)
        moved = None
        for column, value in zip(columns, xyz):
            spread = builder.shuffle_vector(builder.insert_element(undefined, value, first), undefined, everywhere)
            product = builder.fmul(column, spread)
            moved = product if moved is None else builder.fadd(moved, product)
        moved = builder.fadd(moved, columns[3])
        written, _ = _lanes(builder, _row(context, builder, (signature.args[0], to), j), _FLOATS)
        builder.store(builder.fptrunc(moved, _FLOATS), written).align = 4
        return context.get_dummy_value()

    arguments = (target, types.int64, axes, types.float64, types.float64, types.float64)
    return types.void(*arguments), generate


copy_point: Any = intrinsic(_copy_point)
add_point: Any = intrinsic(_add_point)
move_point: Any = intrinsic(_move_point)
