"""Digits, plain networks and one way to train them, for ``digits.py`` and ``privacy.py``."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from fusionkd.distillation import logit_kl

STUDENT, ASSISTANT, TEACHER = 3, 6, 16
"""Width of the networks."""

BATCH = 64
STEPS = 200
FEW = 40

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of a batch's images, labels and which of them may be used."""


@dataclass(frozen=True)
class Images:
    """Digits.

    Attributes:
        pixels: (N, 1, 8, 8) in [0, 1].
        label: (N,) int64.
        labelled: (N,) bool, whose label may be used.
    """

    pixels: Tensor
    label: Tensor
    labelled: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, rows: Tensor) -> "Images":
        return Images(self.pixels[rows], self.label[rows], self.labelled[rows])


@dataclass(frozen=True)
class Split:
    """Who sees which images."""

    teacher: Images
    student: Images
    test: Images


@dataclass(frozen=True)
class Recipe:
    """How all networks are trained."""

    lr: float
    shifts: bool
    steps: int = STEPS


class Network(nn.Module):
    """A small convolutional classifier; ``width`` is that of its first layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shallow = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.deep = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU()
        )
        self.embedding = nn.Sequential(nn.Flatten(), nn.Linear(32 * width, 32), nn.ReLU())
        self.classes = nn.Linear(32, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 1, 8, 8) images to (N, 10) logits."""
        logits: Tensor = self.classes(self.embedding(self.deep(self.shallow(pixels))))
        return logits


def perceptron() -> nn.Module:
    """A teacher of another kind."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def digits() -> tuple[Images, Images]:
    """The images to tune on, then all others."""
    data = load_digits()
    pixels = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16.0
    every = Images(pixels, torch.tensor(data.target), torch.ones(len(pixels), dtype=torch.bool))
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(1797))
    return every[order[:200]], every[order[200:]]


def split(images: Images, seed: int, *, few: bool) -> Split:
    """The images of a seed; with few labels the student has ``FEW`` of them, equally many of each class."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    teacher, student, test = images[order[:600]], images[order[600:1200]], images[order[1200:]]
    if not few:
        return Split(student, student, test)
    labelled = torch.zeros(len(student), dtype=torch.bool)
    for digit in range(10):
        labelled[(student.label == digit).nonzero()[: FEW // 10, 0]] = True
    return Split(teacher, replace(student, labelled=labelled), test)


def shifted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to one pixel along both axes."""
    count = len(pixels)
    padded = F.pad(pixels, (1, 1, 1, 1))
    row = torch.randint(0, 3, (count, 1), generator=generator) + torch.arange(8)
    column = torch.randint(0, 3, (count, 1), generator=generator) + torch.arange(8)
    moved = padded[torch.arange(count)[:, None, None], 0, row[:, :, None], column[:, None, :]]
    return moved[:, None]  # (N, 1, 8, 8)


def train(
    parts: nn.Module, loss: Loss, images: Images, *, recipe: Recipe, seed: int, after: Callable[[], None] | None = None
) -> None:
    """Train for the recipe's steps; half of each batch is labelled where not all images are.

    Args:
        parts: All modules that learn.
        loss: What is minimised.
        images: What is learned from.
        recipe: How.
        seed: Of order and augmentation.
        after: Called after each step.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(parts.parameters(), lr=recipe.lr, weight_decay=0.01, fused=True)
    schedule = OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=recipe.steps, cycle_momentum=False)
    labelled, others = images.labelled.nonzero()[:, 0], (~images.labelled).nonzero()[:, 0]
    parts.train()
    for _ in range(recipe.steps):
        groups = (labelled, others) if len(others) else (labelled,)
        size = BATCH // len(groups)
        rows = torch.cat([group[torch.randint(len(group), (size,), generator=generator)] for group in groups])
        batch = images[rows]
        pixels = shifted(batch.pixels, generator) if recipe.shifts else batch.pixels
        optimizer.zero_grad()
        loss(pixels, batch.label, batch.labelled).backward()
        optimizer.step()
        schedule.step()
        if after is not None:
            after()
    parts.eval()


def labels_loss(logits: Tensor, label: Tensor, labelled: Tensor) -> Tensor:
    """Cross entropy of the labelled images."""
    return F.cross_entropy(logits[labelled], label[labelled])


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A new network."""
    torch.manual_seed(seed)
    return make()


@torch.no_grad()
def probability(model: nn.Module, pixels: Tensor) -> Tensor:
    """(N, 10)."""
    answer: Tensor = model.eval()(pixels).softmax(dim=-1)
    return answer


def correct(answer: Tensor, images: Images) -> float:
    """Percentage of right answers."""
    return float((answer.argmax(dim=-1) == images.label).float().mean() * 100)


class Bench:
    """Everything of one seed and setting; teachers are trained when an arm asks for them first."""

    def __init__(self, data: Split, seed: int, recipe: Recipe) -> None:
        self.data, self.seed, self.recipe = data, seed, recipe
        self.labelled_only = data.student[data.student.labelled]
        self._kept: dict[str, nn.Module] = {}
        self._generations: list[nn.Module] = []

    def taught(self, name: str) -> nn.Module:
        """A frozen model that learned from labels: ``teacher``, ``perceptron`` or ``control``."""
        if name not in self._kept:
            make, images = {
                "teacher": (lambda: Network(TEACHER), self.data.teacher),
                "perceptron": (perceptron, self.data.teacher),
                "control": (lambda: Network(STUDENT), self.labelled_only),
            }[name]
            model = seeded(make, self.seed + 1 if name != "control" else self.seed)
            train(model, lambda x, y, seen: labels_loss(model(x), y, seen), images, recipe=self.recipe, seed=self.seed)
            self._kept[name] = model.requires_grad_(False)
        return self._kept[name]

    def student(self) -> nn.Module:
        """The student, untrained; the same weights for every arm."""
        return seeded(lambda: Network(STUDENT), self.seed)

    def follow(
        self,
        teacher: nn.Module,
        term: Callable[[Tensor, Tensor, Tensor], Tensor],
        *,
        pupil: nn.Module | None = None,
        weight: float = 1.0,
        labels: float = 1.0,
        images: Images | None = None,
    ) -> nn.Module:
        """Train on labels and on a term of (student's logits, teacher's logits, labels)."""
        model = self.student() if pupil is None else pupil

        def loss(x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
            with torch.no_grad():
                wanted = teacher(x)
            logits = model(x)
            return labels * labels_loss(logits, y, seen) + weight * term(logits, wanted, y)

        train(model, loss, images or self.data.student, recipe=self.recipe, seed=self.seed)
        return model.requires_grad_(False)

    def generations(self, count: int = 3) -> list[nn.Module]:
        """Students of which each was taught by the one before, the first by the control (Furlanello, ICML 2018)."""
        while len(self._generations) < count:
            before = self._generations[-1] if self._generations else self.taught("control")
            self._generations.append(self.follow(before, lambda s, t, _: logit_kl(s, t)))
        return self._generations[:count]

    def answer(self, model: nn.Module) -> Tensor:
        """What a model says about the images to be judged on, (N, 10)."""
        return probability(model, self.data.test.pixels)
