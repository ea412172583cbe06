"""Attention by loops over pairs, in double precision: nothing here is shared with what it checks."""

import itertools

import numpy as np

from thinking.networks.attention.patterns import Dense, Global, Strided, TopK, Window, pattern_parts


def mask(pattern, q, k, causal, segments):
    """[B, G, T, T] bool of q [B, T, H, E], k [B, T, G, E] and segments [B, T]."""
    rows, tokens, heads = k.shape[:3]
    visible = np.zeros((rows, heads, tokens, tokens), bool)
    for part, b, g in itertools.product(pattern_parts(pattern), range(rows), range(heads)):
        chosen = _chosen(part, q, k, b, g, causal, segments[b] > 0) if isinstance(part, TopK) else None
        for i, j in itertools.product(range(tokens), repeat=2):
            same = segments[b, i] == segments[b, j] > 0
            if same and not (causal and j > i) and _sees(part, i, j, chosen):
                visible[b, g, i, j] = True
    return visible


def attention(q, k, v, mask):
    """[B, T, H, E] under a mask [B, G, T, T]."""
    rows, tokens, heads, size = q.shape
    shared = heads // k.shape[2]
    output = np.zeros(q.shape)
    for b, h, i in itertools.product(range(rows), range(heads), range(tokens)):
        keys = np.flatnonzero(mask[b, h // shared, i])
        if len(keys):
            logits = k[b, keys, h // shared].astype(float) @ q[b, i, h] / np.sqrt(size)
            weights = np.exp(logits - logits.max())
            output[b, i, h] = weights @ v[b, keys, h // shared] / weights.sum()
    return output


def _sees(part, i, j, chosen):
    distance = abs(i - j)
    match part:
        case Dense():
            return True
        case Window(size):
            return distance < size
        case Strided(stride, size):
            return distance % stride == 0 and (size is None or distance // stride < size)
        case Global(count):
            return i < count or j < count
        case TopK(block, _):
            return j // block in chosen[i // block]


def _chosen(part, q, k, b, g, causal, valid):
    """The blocks of keys that each block of queries picks."""
    tokens, shared = len(valid), q.shape[2] // k.shape[2]
    inside = [
        [t for t in range(start, min(start + part.block, tokens)) if valid[t]] for start in range(0, tokens, part.block)
    ]
    chosen = []
    for own in range(len(inside)):
        query_block = own - 1 if causal else own
        block_query = (
            sum(
                (q[b, t, g * shared : (g + 1) * shared].astype(float).sum(0) for t in inside[query_block]),
                np.zeros(q.shape[3]),
            )
            if query_block >= 0
            else None
        )
        others = [j for j in range(own if causal else len(inside)) if j != own and inside[j]]
        score = {j: float(block_query @ k[b, inside[j], g].astype(float).mean(0)) for j in others}
        chosen.append({own, *sorted(others, key=lambda j: (-score[j], j))[: part.blocks - 1]})
    return chosen
