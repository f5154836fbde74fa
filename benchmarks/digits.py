"""Distillation of any model: a classifier of handwritten digits, every kind of distillation beside a control.

The 1,797 digits of scikit-learn are real, so nothing here is simulated. The networks are plain ``torch.nn`` modules
and the losses are the functions of ``fusionkd.distillation``; ``docs/any_model.md`` shows the core of it.

Each seed splits the images anew: 600 that teachers learn from, 600 of the student's own, 397 to be judged on. The
other 200 never change and serve to tune. Two settings:

- *few labels*: 40 of the student's images are labelled. The teachers learned from other images, with labels, so
  that they know what the student can't. Batches are half labelled, half unlabelled where an arm can use that.
- *same labels*: teacher and student learn from the same 600 labelled images. A teacher has no more to tell than how
  it understood them.

All arms train the same student for equally many steps of equally many images. The control's learning rate and
augmentation are tuned first, and all arms take them over; the weight of each term is the best of a few on the
tuning images of two seeds. Every row is a paired difference over the seeds.

    python benchmarks/digits.py
"""

import argparse
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import torch
import torch.nn.functional as F
from common import Row, t_interval, use_one_thread, write_result
from digits_training import (
    ASSISTANT,
    STEPS,
    STUDENT,
    TEACHER,
    Bench,
    Network,
    Recipe,
    correct,
    digits,
    labels_loss,
    seeded,
    shifted,
    split,
    train,
)
from torch import Tensor, nn

from fusionkd.distillation import (
    attention_transfer,
    correlation_kd,
    decoupled_kd,
    logit_kl,
    masked_mimic,
    recording,
    relation_angle,
    relation_distance,
)

LEARNING_RATES = (3e-3, 1e-2, 3e-2)
TUNING_SEEDS = (100, 101, 102)


def control(bench: Bench) -> Tensor:
    """No teacher, the labelled images alone."""
    return bench.answer(bench.taught("control"))


def response(term: Callable[[Tensor, Tensor, Tensor], Tensor], **options: float) -> Callable[[Bench], Tensor]:
    """A term on logits against the one teacher."""
    return lambda bench: bench.answer(bench.follow(bench.taught("teacher"), term, **options))


def labelled_images_only(bench: Bench) -> Tensor:
    """Logits, on no image that has no label."""
    images = bench.labelled_only
    return bench.answer(bench.follow(bench.taught("teacher"), lambda s, t, _: logit_kl(s, t), images=images))


def pseudo_labels(bench: Bench) -> Tensor:
    """The teacher's most likely class stands in for the label."""
    return bench.answer(bench.follow(bench.taught("teacher"), lambda s, t, _: F.cross_entropy(s, t.argmax(dim=-1))))


def features(tap: str, term: Callable[[Tensor, Tensor], Tensor], *, weight: float) -> Callable[[Bench], Tensor]:
    """A term on what a module gives, through a 1x1 adapter where the term needs equal channels."""

    def arm(bench: Bench) -> Tensor:
        teacher, student = bench.taught("teacher"), bench.student()
        adapter = nn.Conv2d(2 * STUDENT, 2 * TEACHER, 1) if term is mimic else nn.Identity()

        def loss(x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
            with recording(teacher, [tap]) as there, torch.no_grad():
                teacher(x)
            with recording(student, [tap]) as here:
                logits = student(x)
            return labels_loss(logits, y, seen) + weight * term(adapter(here[tap]), there[tap])

        train(nn.ModuleList([student, adapter]), loss, bench.data.student, recipe=bench.recipe, seed=bench.seed)
        return bench.answer(student)

    return arm


def mimic(student: Tensor, teacher: Tensor) -> Tensor:
    """Equal features everywhere."""
    return masked_mimic(student, teacher, torch.ones_like(teacher[:, :1]))


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """Equal attention everywhere."""
    return attention_transfer(student, teacher, torch.ones_like(teacher[:, :1]))


def relations(student: Tensor, teacher: Tensor) -> Tensor:
    """How the batch's images lie to each other; angles among every other one, since they are N^3."""
    return relation_distance(student, teacher) + 2.0 * relation_angle(student[::2], teacher[::2])


def itself(bench: Bench) -> Tensor:
    """The last layer teaches a light classifier behind the first one (BYOT, Zhang et al., ICCV 2019)."""
    student = bench.student()
    auxiliary = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16 * STUDENT, 10))

    def loss(x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
        with recording(student, ["shallow"]) as here:
            deep = student(x)
        shallow = auxiliary(here["shallow"])
        return labels_loss(deep, y, seen) + labels_loss(shallow, y, seen) + logit_kl(shallow, deep.detach()) / 4.0

    train(nn.ModuleList([student, auxiliary]), loss, bench.data.student, recipe=bench.recipe, seed=bench.seed)
    return bench.answer(student)


def two_teachers(bench: Bench) -> Tensor:
    """The mean of the losses against a convolutional teacher and a perceptron."""
    both = Side([bench.taught("teacher"), bench.taught("perceptron")])
    return bench.answer(bench.follow(both, lambda s, t, _: (logit_kl(s, t[:, 0]) + logit_kl(s, t[:, 1])) / 2))


class Side(nn.Module):
    """Several models' logits, (N, models, 10)."""

    def __init__(self, models: list[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, pixels: Tensor) -> Tensor:
        """Ask them all."""
        return torch.stack([model(pixels) for model in self.models], dim=1)


def born_again(bench: Bench) -> Tensor:
    """The third generation."""
    return bench.answer(bench.generations()[-1])


def born_again_ensemble(bench: Bench) -> Tensor:
    """The mean of three generations' answers: three times the student's size."""
    return torch.stack([bench.answer(model) for model in bench.generations()]).mean(dim=0)


def progressive(bench: Bench) -> Tensor:
    """Teacher, assistant, student (TAKD, Mirzadeh et al., AAAI 2020)."""
    assistant = seeded(lambda: Network(ASSISTANT), bench.seed + 2)
    bench.follow(bench.taught("teacher"), lambda s, t, _: logit_kl(s, t), pupil=assistant)
    return bench.answer(bench.follow(assistant.eval(), lambda s, t, _: logit_kl(s, t)))


def mutual(bench: Bench) -> Tensor:
    """Two students teach each other (deep mutual learning, Zhang et al., CVPR 2018); the first one is judged."""
    one, other = bench.student(), seeded(lambda: Network(STUDENT), bench.seed + 3)

    def loss(x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
        a, b = one(x), other(x)
        both = labels_loss(a, y, seen) + labels_loss(b, y, seen)
        return both + logit_kl(a, b.detach(), temperature=1.0) + logit_kl(b, a.detach(), temperature=1.0)

    train(nn.ModuleList([one, other]), loss, bench.data.student, recipe=bench.recipe, seed=bench.seed)
    return bench.answer(one)


def mean_teacher(bench: Bench) -> Tensor:
    """The teacher is a moving average of the student (Tarvainen and Valpola, NeurIPS 2017), which is judged."""
    student, average = bench.student(), bench.student().requires_grad_(False)
    generator = torch.Generator().manual_seed(bench.seed)

    def loss(x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
        logits = student(x)
        with torch.no_grad():
            wanted = average(shifted(x, generator))
        return labels_loss(logits, y, seen) + logit_kl(logits, wanted, temperature=1.0)

    @torch.no_grad()
    def follow() -> None:
        for kept, value in zip(average.state_dict().values(), student.state_dict().values()):
            if kept.is_floating_point():
                kept.lerp_(value, 0.05)

    train(student, loss, bench.data.student, recipe=bench.recipe, seed=bench.seed, after=follow)
    return bench.answer(average)


ARMS: Mapping[str, Callable[[Bench], Tensor]] = {
    "control": control,
    "logits (LogitKL)": response(lambda s, t, _: logit_kl(s, t)),
    "logits, labelled images alone": labelled_images_only,
    "logits, no label at all": response(lambda s, t, _: logit_kl(s, t), labels=0.0),
    "logits (DecoupledKD)": response(lambda s, t, y: decoupled_kd(s, t, t.argmax(dim=-1), beta=1.0)),
    "logits (CorrelationKD)": response(lambda s, t, _: correlation_kd(s, t), weight=4.0),
    "pseudo-labels": pseudo_labels,
    "features (FeatureMimic)": features("deep", mimic, weight=0.5),
    "features (AttentionTransfer)": features("deep", attention, weight=10.0),
    "relations (RKD)": features("embedding", relations, weight=5.0),
    "two teachers": two_teachers,
    "self (BYOT)": itself,
    "born again, third generation": born_again,
    "born again, three generations together": born_again_ensemble,
    "progressive, through an assistant": progressive,
    "online, two students (mutual)": mutual,
    "online, moving average (EMA)": mean_teacher,
    "(the teacher itself)": lambda bench: bench.answer(bench.taught("teacher")),
}
"""What is compared; each gives probabilities of the images to be judged on."""


FEW_ONLY = ("logits, labelled images alone", "pseudo-labels")
SETTINGS = {"few labels": True, "same labels": False}


def control_on_tuning_images(job: tuple[bool, int, Recipe]) -> float:
    """Percentage that the control gets right of images that nothing else uses."""
    few, seed, recipe = job
    use_one_thread()
    judged, others = digits()
    data = replace(split(others, seed, few=few), test=judged)
    bench = Bench(data, seed, recipe)
    return correct(control(bench), judged)


def all_arms(job: tuple[bool, int, Recipe]) -> dict[str, float]:
    """Percentage that each arm gets right of a seed's images."""
    few, seed, recipe = job
    use_one_thread()
    bench = Bench(split(digits()[1], seed, few=few), seed, recipe)
    return {name: correct(arm(bench), bench.data.test) for name, arm in ARMS.items() if few or name not in FEW_ONLY}


def tuned(run: Callable[..., Iterable[float]], *, few: bool, steps: int) -> Recipe:
    """The learning rate and augmentation with which the control does best on the tuning images.

    Args:
        run: ``map``, or that of a pool.
        few: The setting.
        steps: Of each training.
    """
    recipes = [Recipe(lr, shifts, steps) for lr, shifts in itertools.product(LEARNING_RATES, (False, True))]
    jobs = [(few, seed, recipe) for recipe in recipes for seed in TUNING_SEEDS]
    found = np.fromiter(run(control_on_tuning_images, jobs), float).reshape(len(recipes), len(TUNING_SEEDS))
    return recipes[int(found.mean(axis=1).argmax())]


def table(setting: str, results: Sequence[Mapping[str, float]]) -> list[Row]:
    """Each arm's share of right answers, and its paired difference from the control."""
    base = np.array([result["control"] for result in results])
    rows = [Row(f"{setting}: control, right answers", float(base.mean()), "%", interval=t_interval(base))]
    for name in results[0]:
        if name == "control":
            continue
        found = np.array([result[name] for result in results])
        what = f"{setting}: {name}, {found.mean():.1f} % right, minus control"
        rows.append(Row(what, float((found - base).mean()), "points", interval=t_interval(found - base)))
    return rows


def main() -> None:
    """Tune the control, run every arm on every seed, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    given = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        for setting, few in SETTINGS.items():
            recipe = tuned(pool.map, few=few, steps=given.steps)
            print(f"{setting}: the control does best with a learning rate of {recipe.lr:g}, shifts {recipe.shifts}")
            results = list(pool.map(all_arms, [(few, seed, recipe) for seed in range(given.seeds)]))
            rows += table(setting, results)
    write_result("digits", rows, simulated=False, packages=("torch", "scikit-learn"))


if __name__ == "__main__":
    main()
