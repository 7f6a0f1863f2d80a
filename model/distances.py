"""Distances between tokens, for attention that depends on them (MPNet)."""

import math

import torch
from torch import Tensor


def distance_buckets(T: int, count: int, furthest: int = 128) -> Tensor:
    """The bucket of the distance j - i from each token i to each token j, int64 [T, T], as in T5 (Raffel et al. 2020)
    and MPNet.

    Half of the buckets are for j > i. Of each half, the first half are for one distance each, the others for ranges
    that grow geometrically up to `furthest`. With 32: distances 0 to 7 back are 0 to 7, 8 to 11 back are 8, 91 and more
    back are 15; those ahead are the same plus 16.
    """
    distance = torch.arange(T)[None, :] - torch.arange(T)[:, None]
    half, single = count // 2, count // 4
    far = distance.abs().clamp(min=1).float().div(single).log() / math.log(furthest / single) * (half - single)
    bucket = torch.where(distance.abs() < single, distance.abs(), (single + far.long()).clamp(max=half - 1))
    return bucket + half * (distance > 0)
