"""What a relation compares: sets of patches of student and teacher, refused in one line where they do not fit."""

from __future__ import annotations

from torch import Tensor

from harness.losses.precision import refuse_non_float, refuse_unless, shape


def refuse_unlike(student: Tensor, teacher: Tensor, *, least: int = 1, same_width: bool = False) -> None:
    """Raises BadInput unless both are [N, Q, D] floats of the same N sets of Q >= `least` patches, of one width where
    `same_width` asks for that."""
    got = f"got student {shape(student)}, teacher {shape(teacher)}"
    ok = student.ndim == 3 and teacher.ndim == 3 and student.shape[:2] == teacher.shape[:2]
    refuse_unless(ok, f"{got}: want [B, P, D], same images and patches; resize the teacher's patches to the student's")
    refuse_unless(student.numel() > 0 and teacher.numel() > 0, f"{got}: want no empty axis; pass some patches")
    refuse_unless(student.shape[1] >= least, f"{got}: want two patches to compare; take larger crops")
    same = not same_width or student.shape[2] == teacher.shape[2]
    refuse_unless(same, f"{got}: want equal widths for gram.relation=features; take another relation, such as cka")
    refuse_non_float(student=student, teacher=teacher)
