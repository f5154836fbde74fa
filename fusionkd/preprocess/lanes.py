"""Four numbers of a point at once: what LLVM doesn't find by itself in loops over rows of five.

Numba leaves LLVM's pass for straight-line vectors off, so a loop over the columns of one point compiles to one
instruction per number. These functions, for kernels alone, say four lanes outright; they compile for every
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
_INTEGER = ir.IntType(32)
_INTEGERS = ir.VectorType(_INTEGER, 4)
_EIGHT_FLOATS, _EIGHT_INTEGERS = ir.VectorType(ir.FloatType(), 8), ir.VectorType(_INTEGER, 8)
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


def _add_point_below(typing: Any, target: Any, j: Any, source: Any, i: Any, most: Any) -> Any:
    """``target[j, :5] += source[i, :5]`` and one more in the count, if that is below ``most``.

    Rows of ``target`` have eight float32 numbers; the count is column 5, as int32 bits, the last two are anybody's.
    Points that find no room are masked to zeros instead of jumped over: a processor can't guess which ones they are.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        to, j, of, i, most = values
        address = _row(context, builder, (signature.args[0], to), j)
        row = builder.inttoptr(address, _EIGHT_FLOATS.as_pointer())
        counter = builder.inttoptr(builder.add(address, ir.Constant(_INDEX, 20)), _INTEGER.as_pointer())
        undefined = ir.Constant(_EIGHT_INTEGERS, ir.Undefined)

        def everywhere(value: Any) -> Any:
            first = builder.insert_element(undefined, value, ir.Constant(_INTEGER, 0))
            return builder.shuffle_vector(first, undefined, ir.Constant(_EIGHT_INTEGERS, [0] * 8))

        # -1 in all lanes where there is room, else 0.
        room = builder.icmp_signed(">", everywhere(most), everywhere(_load(builder, counter, 4)))
        mask = builder.sext(room, _EIGHT_INTEGERS)
        sums = _load(builder, row, 4)
        point = _five_of_eight(builder, _row(context, builder, (signature.args[2], of), i))
        kept = builder.bitcast(builder.and_(builder.bitcast(point, _EIGHT_INTEGERS), mask), _EIGHT_FLOATS)
        added = builder.fadd(sums, kept)
        counted = builder.bitcast(builder.sub(builder.bitcast(sums, _EIGHT_INTEGERS), mask), _EIGHT_FLOATS)
        five_sums_then_counts = ir.Constant(_EIGHT_INTEGERS, [0, 1, 2, 3, 4, 13, 14, 15])
        builder.store(builder.shuffle_vector(added, counted, five_sums_then_counts), row).align = 4
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, types.int32), generate


def _five_of_eight(builder: Any, address: Any) -> Any:
    """The five numbers of a row and three zeros; no more than the five are read."""
    four, fifth = _lanes(builder, address, _FLOATS)
    zeros = ir.Constant(_FLOATS, [0.0] * 4)
    last = builder.insert_element(zeros, _load(builder, fifth, 4), ir.Constant(_INTEGER, 0))
    return builder.shuffle_vector(_load(builder, four, 4), last, ir.Constant(_EIGHT_INTEGERS, list(range(8))))


def _divide_point(typing: Any, target: Any, j: Any, source: Any, i: Any, by: Any) -> Any:
    """``target[j, :5] = source[i, :5] / by`` of float32 rows."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        to, j, of, i, by = values
        written = _lanes(builder, _row(context, builder, (signature.args[0], to), j), _FLOATS)
        read = _lanes(builder, _row(context, builder, (signature.args[2], of), i), _FLOATS)
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        first = builder.insert_element(undefined, by, ir.Constant(_INTEGER, 0))
        divisors = (builder.shuffle_vector(first, undefined, ir.Constant(_INTEGERS, [0] * 4)), by)
        for pointer, other, divisor in zip(written, read, divisors):
            builder.store(builder.fdiv(_load(builder, other, 4), divisor), pointer).align = 4
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, types.float32), generate


def _take_four_points(typing: Any, columns: Any, j: Any, source: Any, i: Any) -> Any:
    """``columns[:4, j:j + 4] = source[i:i + 4, :4].T`` of float32; of rows of three the fourth column is the next x."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        to, j, of, i = values
        rows = []
        for k in range(4):
            row = _row(context, builder, (signature.args[2], of), builder.add(i, ir.Constant(_INDEX, k)))
            rows.append(_load(builder, _lanes(builder, row, _FLOATS)[0], 4))

        def mixed(a: Any, b: Any, lanes: list[int]) -> Any:
            return builder.shuffle_vector(a, b, ir.Constant(_INTEGERS, lanes))

        for half in (0, 2):  # columns 0 and 1, then 2 and 3
            a, b = (mixed(rows[k], rows[k + 1], [half, half + 4, half + 1, half + 5]) for k in (0, 2))
            for k, lanes in enumerate(([0, 1, 4, 5], [2, 3, 6, 7])):
                line = _row(context, builder, (signature.args[0], to), ir.Constant(_INDEX, half + k))
                place = builder.add(line, builder.mul(j, ir.Constant(_INDEX, 4)))
                builder.store(mixed(a, b, lanes), builder.inttoptr(place, _FLOATS.as_pointer())).align = 4
        return context.get_dummy_value()

    return types.void(columns, types.int64, source, types.int64), generate


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
add_point_below: Any = intrinsic(_add_point_below)
divide_point: Any = intrinsic(_divide_point)
take_four_points: Any = intrinsic(_take_four_points)
move_point: Any = intrinsic(_move_point)
is_kept: Any = intrinsic(_is_kept)
