"""``fusionkd train-teachers``: the shipped teachers, from an empty folder to the zoo."""

import argparse
import datetime
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fusionkd.cli.training import train
from fusionkd.errors import UserError
from fusionkd.models import save_model
from fusionkd.simulation import WorldSettings, write_world
from fusionkd.tasks import record_control as keep_control
from fusionkd.tasks.curve import CURVE
from fusionkd.teachers import load_student, zoo_folder
from fusionkd.teachers.checkpoints import read_checkpoint, record_of

TEACHERS = ("lidar", "camera", "fused")
MEANS = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")

# Other seeds than the default world's, so that a teacher never saw a frame that it is judged or teaches on.
WORLD = WorldSettings(scenes=78, val_scenes=8, seed=1000, keyframes_per_scene=16, image_width_px=512)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="fusionkd train-teachers",
        description="Write the teachers' simulated world where it is absent, train each teacher that has no "
        "checkpoint yet (an interrupted one goes on), and write it to the zoo with its card.",
    )
    out.add_argument("--only", choices=TEACHERS, action="append", help="this teacher; may be given several times")
    out.add_argument("--root", type=Path, default=Path("data/simulated-teachers"), help="world (default: %(default)s)")
    out.add_argument("--configs", type=Path, default=Path("configs/teachers"), help="(default: %(default)s)")
    out.add_argument("--runs", type=Path, default=Path("runs/teachers"), help="(default: %(default)s)")
    out.add_argument("--zoo", type=Path, default=zoo_folder(), help="where weights and cards go (default: %(default)s)")
    out.add_argument(
        "--export", nargs=2, metavar=("CKPT", "NAME"), help="train nothing: write a checkpoint to the zoo as NAME"
    )
    out.add_argument(
        "--control",
        nargs=2,
        metavar=("REPORT", "NAME"),
        help="train nothing: record the student of a control's report.json as NAME, for the tables of later runs",
    )
    out.add_argument("options", nargs="*", help="after --: passed on to each training, such as --trainer.max_steps 100")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    Raises:
        UserError: If a configuration or checkpoint is missing or wrong.
    """
    given = parser().parse_args(arguments)
    if given.export:
        export(Path(given.export[0]), given.export[1], zoo=given.zoo)
        return 0
    if given.control:
        record_control(Path(given.control[0]), given.control[1], zoo=given.zoo)
        return 0
    if not (given.root / WORLD.version).is_dir():
        write_world(given.root, WORLD)
    for name in TEACHERS:
        if given.only and name not in given.only:
            continue
        train_teacher(name, given)
        export(given.runs / name / "student.ckpt", name, zoo=given.zoo)
    return 0


def train_teacher(name: str, given: argparse.Namespace) -> None:
    """Train one teacher, unless its checkpoint is there; go on where an earlier run was interrupted.

    Args:
        name: Which one.
        given: The parsed command line.

    Raises:
        UserError: If its configuration isn't there.
    """
    folder = given.runs / name
    if (folder / "student.ckpt").is_file():
        print(f"Teacher {name} is trained already: {folder / 'student.ckpt'}. Delete it to train again.")
        return
    config = given.configs / f"{name}.yaml"
    if not config.is_file():
        raise UserError(f"There is no configuration {config}. Run this in fusionkd's repository, or give --configs.")
    options = ["fit", "--config", str(config), "--data.init_args.root", str(given.root)]
    options += ["--trainer.default_root_dir", str(folder), *given.options]
    if name == "fused":
        # From this folder's own trainings, or else from the weights that are in the zoo.
        parts = yaml.safe_load(config.read_text())["model"]["warm_start"]
        options += ["--model.warm_start", json.dumps({part: _source(part.split(".")[0], given) for part in parts})]
    interrupted = folder / "checkpoints" / "last.ckpt"
    if interrupted.is_file():
        options += ["--ckpt_path", str(interrupted)]
    train(options)


def _source(teacher: str, given: argparse.Namespace) -> str:
    trained = given.runs / teacher / "student.ckpt"
    return str(trained if trained.is_file() else given.zoo / f"{teacher}.safetensors")


def export(checkpoint: Path, name: str, *, zoo: Path) -> None:
    """Write a checkpoint's student to the zoo: ``NAME.safetensors``, the card ``NAME.md``, and the run's curve.

    Args:
        checkpoint: A ``student.ckpt`` of ``tools/train.py fit``.
        name: The name after ``zoo:``.
        zoo: The folder.

    Raises:
        UserError: If the checkpoint can't be read.
    """
    model = load_student(checkpoint)
    record = record_of(read_checkpoint(checkpoint))
    card: dict[str, Any] = {
        "name": name,
        "command": made_by(checkpoint, name),
        "figures": {key: record.figures[key] for key in record.figures if "@" not in key},
        "simulated": record.simulated,
        "data": _data_of(checkpoint.parent / "config.yaml"),
        "deploy": None if record.deploy is None else record.deploy.to_json(),
        "date": datetime.date.today().isoformat(),
    }
    weights = zoo / f"{name}.safetensors"
    save_model(model, weights, card=card)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    (zoo / f"{name}.md").write_text(card_text(card, digest=digest, size=weights.stat().st_size))
    curve = checkpoint.parent / CURVE
    if curve.is_file():
        (zoo / f"{name}_curve.json").write_text(curve.read_text())
    print(f"Wrote {weights} ({weights.stat().st_size / 1e6:.1f} MB) and its card.")


def record_control(report: Path, name: str, *, zoo: Path) -> None:
    """Keep the figures of a student that had no teacher, to stand beside those of distilled ones.

    Args:
        report: ``report.json`` of the control's run.
        name: What ``EndReport.control`` calls it.
        zoo: The folder of ``control.json``.

    Raises:
        UserError: If there is no such report, or it is one of a run with teachers.
    """
    if not report.is_file():
        raise UserError(f"There is no report {report}.")
    content = json.loads(report.read_text())
    if "conditions" not in content:
        raise UserError(f"{report} is of an older version and doesn't say how its student was trained; train it again.")
    if any(row["name"].startswith("teacher") for row in content["rows"]):
        raise UserError(f"{report} is of a run with teachers; a control has none.")
    path = keep_control(content, name, date=datetime.date.today().isoformat(), folder=zoo)
    print(f"Recorded the control '{name}' in {path}.")


def card_text(card: dict[str, Any], *, digest: str, size: int) -> str:
    """The model card as Markdown.

    Args:
        card: What ``save_model`` keeps in the weights file.
        digest: sha256 of the weights file.
        size: Its bytes.
    """
    kind = "a SIMULATED world; the figures say nothing about real streets" if card["simulated"] else "nuScenes"
    figures = card["figures"]
    means = "\n".join(f"| {name} | {figures[name]:.4f} |" for name in MEANS if name in figures)
    classes = "\n".join(f"| AP {key[3:]} | {value:.4f} |" for key, value in figures.items() if key.startswith("AP/"))
    return (
        f"# zoo:{card['name']}\n\n"
        f"Trained and judged on {kind}.\n\n"
        f"- command: {card['command']}\n"
        f"- data: `{json.dumps(card['data'], sort_keys=True)}`\n"
        f"- written: {card['date']}; {size:,} bytes, half precision\n"
        f"- sha256: `{digest}`\n\n"
        f"| validation | figure |\n| --- | --- |\n{means}\n{classes}\n"
    )


def made_by(checkpoint: Path, name: str) -> str:
    """The commands that make a model of the zoo, as Markdown.

    Args:
        checkpoint: Where its training left it, ``RUN/student.ckpt``, the run being named after its configuration or,
            seen from the repository, after its overlay in ``configs/students``.
        name: The name after ``zoo:``.
    """
    if name in TEACHERS:
        return f"`python tools/train_teachers.py --only {name}`"
    run = checkpoint.parent.name
    overlay = Path("configs/students") / f"{run}.yaml"
    files = ["configs/nuscenes_mini.yaml", overlay.as_posix()] if overlay.is_file() else [f"configs/{run}.yaml"]
    training = " ".join(["python tools/train.py fit", *(f"--config {file}" for file in files)])
    config = checkpoint.parent / "config.yaml"
    if config.is_file():
        trainer = yaml.safe_load(config.read_text())["trainer"]
        training += "".join(f" --trainer.{key} {trainer[key]}" for key in ("max_steps", "val_check_interval"))
    return f"`{training}`, then `python tools/train_teachers.py --export runs/{run}/{checkpoint.name} {name}`"


def _data_of(config: Path) -> dict[str, Any]:
    """What a run's configuration says about its data, and the world's own settings where it is simulated."""
    if not config.is_file():
        return {}
    arguments = yaml.safe_load(config.read_text())["data"]["init_args"]
    kept = {key: arguments.get(key) for key in ("version", "train_split", "val_split", "num_sweeps", "image_size_px")}
    mark = Path(arguments["root"]) / "simulated.json"
    return kept | ({"world": json.loads(mark.read_text())} if mark.is_file() else {})
