"""A trained run at work. A program of yours imports from here; see README.md."""

from data.files import InputError
from experiments.inference.python import Answer, Candidate, Label, Labels, Model, load

__all__ = ["Answer", "Candidate", "InputError", "Label", "Labels", "Model", "load"]
