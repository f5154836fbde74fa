"""Four numbers of a point at once: what LLVM doesn't find by itself in loops over rows of five.

Numba leaves LLVM's pass for straight-line vectors off, so a loop over the columns of one point compiles to one
instruction per number. These four functions, for kernels alone, say four lanes outright; they compile for every
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
_NO_SIGN = 0x7FFFFFFF


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


def _move_point(typing: Any, target: Any, j: Any, axes: Any, source: Any, i: Any, fifth: Any) -> Any:
    """``target[j] = [*moved, source[i, 3], fifth]``: a float32 point moved by float64 axes.

    ``moved = x * axes[0, :3] + y * axes[1, :3] + z * axes[2, :3] + axes[3, :3]`` for ``x, y, z = source[i, :3]``.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        to, j, axes, of, i, fifth = values
        rows = [_row(context, builder, (signature.args[2], axes), ir.Constant(_INDEX, k)) for k in range(4)]
        columns = [_load(builder, _lanes(builder, row, _DOUBLES)[0], 8) for row in rows]
        address, _ = _lanes(builder, _row(context, builder, (signature.args[3], of), i), _FLOATS)
        point = _load(builder, address, 4)
        xyz = builder.fpext(point, _DOUBLES)
        undefined = ir.Constant(_DOUBLES, ir.Undefined)
        moved = None
        for k, column in enumerate(columns[:3]):
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), 4), [k] * 4)
            product = builder.fmul(column, builder.shuffle_vector(xyz, undefined, everywhere))
            moved = product if moved is None else builder.fadd(moved, product)
        moved = builder.fadd(moved, columns[3])
        three_and_intensity = ir.Constant(ir.VectorType(ir.IntType(32), 4), [0, 1, 2, 7])
        row = builder.shuffle_vector(builder.fptrunc(moved, _FLOATS), point, three_and_intensity)
        written = _lanes(builder, _row(context, builder, (signature.args[0], to), j), _FLOATS)
        for value, pointer in zip((row, fifth), written):
            builder.store(value, pointer).align = 4
        return context.get_dummy_value()

    return types.void(target, types.int64, axes, source, types.int64, types.float32), generate


def _is_kept(typing: Any, source: Any, i: Any, min_distance_m: Any) -> Any:
    """Whether ``source[i, :4]`` is finite, and ``|x|`` or ``|y|`` no less than a distance; as 0 or 1."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        of, i, nearest = values
        point, _ = _lanes(builder, _row(context, builder, (signature.args[0], of), i), _FLOATS)
        bits = ir.VectorType(ir.IntType(32), 4)
        positive = builder.and_(builder.bitcast(_load(builder, point, 4), bits), ir.Constant(bits, [_NO_SIGN] * 4))
        size = builder.bitcast(positive, _FLOATS)
        # Ordered: NaN is neither below infinity nor beyond the distance.
        finite = builder.fcmp_ordered("<", size, ir.Constant(_FLOATS, [float("inf")] * 4))
        distances = ir.Constant(_FLOATS, [0.0, 0.0, float("inf"), float("inf")])
        for lane in (0, 1):
            distances = builder.insert_element(distances, nearest, ir.Constant(ir.IntType(32), lane))
        far = builder.fcmp_ordered(">=", size, distances)
        mask = ir.IntType(4)
        all_finite = builder.icmp_unsigned("==", builder.bitcast(finite, mask), ir.Constant(mask, 15))
        any_far = builder.icmp_unsigned("!=", builder.bitcast(far, mask), ir.Constant(mask, 0))
        return builder.zext(builder.and_(all_finite, any_far), _INDEX)

    return types.int64(source, types.int64, types.float32), generate


copy_point: Any = intrinsic(_copy_point)
add_point: Any = intrinsic(_add_point)
move_point: Any = intrinsic(_move_point)
is_kept: Any = intrinsic(_is_kept)
