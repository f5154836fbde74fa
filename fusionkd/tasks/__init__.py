"""Lightning tasks and what goes with them."""

from fusionkd.tasks.averaging import StudentAverage
from fusionkd.tasks.checkpointing import RunCheckpoint
from fusionkd.tasks.control import conditions, record_control, recorded_control
from fusionkd.tasks.curve import TrainingCurve
from fusionkd.tasks.distillation import DistillationTask
from fusionkd.tasks.evaluation import check_teachers, evaluate_models
from fusionkd.tasks.faculty import Faculty
from fusionkd.tasks.fellows import Fellow, Peer, ShallowHead
from fusionkd.tasks.freezing import FrozenParts
from fusionkd.tasks.gradients import GradientShares, gradient_norms
from fusionkd.tasks.measure import Cost, measure_cost
from fusionkd.tasks.optimization import OneCycle
from fusionkd.tasks.progress import ProgressBar, silence_warnings
from fusionkd.tasks.report import EndReport
from fusionkd.tasks.supervised import SupervisedTask
from fusionkd.tasks.tracking import Tracker
from fusionkd.teachers import load_student

__all__ = [
    "Cost",
    "DistillationTask",
    "EndReport",
    "Faculty",
    "Fellow",
    "FrozenParts",
    "GradientShares",
    "OneCycle",
    "Peer",
    "ProgressBar",
    "RunCheckpoint",
    "ShallowHead",
    "StudentAverage",
    "SupervisedTask",
    "Tracker",
    "TrainingCurve",
    "check_teachers",
    "conditions",
    "evaluate_models",
    "gradient_norms",
    "load_student",
    "measure_cost",
    "record_control",
    "recorded_control",
    "silence_warnings",
]
