"""Trained models that teach."""

from fusionkd.teachers.cached import CachedTeacher
from fusionkd.teachers.checkpoints import Record, load_student
from fusionkd.teachers.ensemble import weighted_box_fusion
from fusionkd.teachers.frozen import FrozenTeacher, far_off, load_trained, zoo_folder, zoo_path
from fusionkd.teachers.mean import MeanTeacher, average_
from fusionkd.teachers.teacher import Teacher

__all__ = [
    "CachedTeacher",
    "FrozenTeacher",
    "MeanTeacher",
    "Record",
    "Teacher",
    "average_",
    "far_off",
    "load_student",
    "load_trained",
    "weighted_box_fusion",
    "zoo_folder",
    "zoo_path",
]
