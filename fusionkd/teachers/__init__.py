"""Trained models that teach."""

from fusionkd.teachers.cached import CachedTeacher
from fusionkd.teachers.checkpoints import Record, load_student
from fusionkd.teachers.ensemble import weighted_box_fusion
from fusionkd.teachers.frozen import FrozenTeacher, far_off, load_trained, zoo_folder, zoo_path

__all__ = [
    "CachedTeacher",
    "FrozenTeacher",
    "Record",
    "far_off",
    "load_student",
    "load_trained",
    "weighted_box_fusion",
    "zoo_folder",
    "zoo_path",
]
