"""Outputs of modules inside of a model, so that no model is edited to be distilled."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from fusionkd.distillation.base import TAPS, module_taps
from fusionkd.errors import UserError


@contextmanager
def recording(model: nn.Module, paths: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Record what modules of a model give while the context lasts.

    Args:
        model: Any model.
        paths: Dotted paths of modules, as in ``model.named_modules()``.

    Yields:
        A dictionary that each forward pass fills, by path; a module that runs several times leaves its last output.

    Raises:
        UserError: If there is no such module, or it gives no single tensor.
    """
    found: dict[str, Tensor] = {}
    handles = []
    try:
        for path in paths:
            handles.append(module_at(model, path).register_forward_hook(_keep(found, path)))
        yield found
    finally:
        for handle in handles:
            handle.remove()


def module_at(model: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path.

    Raises:
        UserError: If there is none; the message names those that are most like it.
    """
    modules: dict[str, nn.Module] = {name: module for name, module in model.named_modules() if name}
    if path not in modules:
        alike = difflib.get_close_matches(path, modules, n=5, cutoff=0.4)
        known = alike or [name for name, _ in model.named_children()]
        raise UserError(f"no module has the path '{path}'; there are, among others, {', '.join(known)}.")
    return modules[path]


def check_modules(taps: Iterable[str], model: nn.Module, *, term: str, owner: str) -> None:
    """See that the modules which a term reads are there.

    Args:
        taps: The term's taps of this model.
        model: Whose modules.
        term: The term's key, for messages.
        owner: The model's name, for messages.

    Raises:
        UserError: If one isn't.
    """
    for path in sorted(module_taps(taps)):
        try:
            module_at(model, path)
        except UserError as error:
            raise UserError(
                f"Term '{term}' asks for the tap '{path}' of {owner}, but {error} Fields are {', '.join(TAPS)}."
            ) from None


def _keep(found: dict[str, Tensor], path: str) -> Callable[..., None]:
    def hook(_module: nn.Module, _arguments: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise UserError(
                f"The module '{path}' gives a {type(output).__name__}, and a tap must be one tensor: name a module "
                f"inside of it or behind it."
            )
        found[path] = output

    return hook
