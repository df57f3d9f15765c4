"""How many slots each node of a ball tree owns, and which places of the leaf order they hold: counts alone decide."""

import torch


def left_slots(size, ball_size, block_size):
    """Slots of the left child of a node of `size`: whole balls while there are several, then blocks, then slots."""
    unit = torch.where(size > ball_size, ball_size, torch.where(size > block_size, block_size, 1))
    return (size // unit + 1) // 2 * unit


def first_places(slot, place0, points, slots):
    """Place in the leaf order of the first point in or behind a slot of a sample."""
    return place0 + points * slot // slots
