"""Memory asked for before its turn.

Points of a cloud find their cells all over tables that the nearest caches don't hold. Where they will look is known a
block in advance, so that a kernel can ask for a line some points before it reads it, instead of waiting for it.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

AHEAD = 16
"""How many points in advance; the arrays that say where have that many entries more, whatever they hold."""

_BYTE = ir.IntType(8).as_pointer()
_FLAG = ir.IntType(32)
_NEAREST, _DATA = ir.Constant(_FLAG, 3), ir.Constant(_FLAG, 1)


def _fetch(typing: Any, array: Any, i: Any) -> Any:
    """Asks for row ``i`` of a C-contiguous array, to be read and written; it may lie outside."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array, i = values
        made = context.make_array(signature.args[0])(context, builder, array)
        if signature.args[0].ndim == 1:
            place = builder.bitcast(builder.gep(made.data, [i]), _BYTE)
        else:
            strides: Any = cgutils.unpack_tuple(builder, made.strides)  # type: ignore[no-untyped-call]
            place = builder.gep(builder.bitcast(made.data, _BYTE), [builder.mul(i, strides[0])])
        kind = ir.FunctionType(ir.VoidType(), [_BYTE, _FLAG, _FLAG, _FLAG])
        prefetch: Any = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")  # type: ignore[no-untyped-call]
        builder.call(prefetch, [place, ir.Constant(_FLAG, 1), _NEAREST, _DATA])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


fetch: Any = intrinsic(_fetch)
