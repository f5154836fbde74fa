"""Which precision a run takes."""

import pytest

from fusionkd.cli import precision
from fusionkd.cli.precision import suitable_precision


@pytest.mark.parametrize(
    ("configured", "accelerator", "native", "taken"),
    [
        ("bf16-mixed", "cpu", False, "32-true"),
        ("bf16-true", "cpu", False, "32-true"),
        ("bf16-mixed", "cpu", True, "bf16-mixed"),
        ("bf16-mixed", "gpu", False, "bf16-mixed"),
        ("16-mixed", "cpu", False, "16-mixed"),
        (None, "cpu", False, None),
    ],
)
def test_bfloat16_only_where_it_is_native(
    configured: str | None,
    accelerator: str,
    native: bool,
    taken: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(precision, "cpu_knows_bfloat16", lambda: native)
    assert suitable_precision(configured, accelerator) == taken
    assert ("32-true" in capsys.readouterr().err) == (taken != configured)


def test_auto_is_the_cpu_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_knows_bfloat16", lambda: False)
    for available, taken in ((False, "32-true"), (True, "bf16-mixed")):
        monkeypatch.setattr("torch.accelerator.is_available", lambda found=available: found)
        assert suitable_precision("bf16-mixed", "auto") == taken
