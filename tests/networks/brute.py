"""Attention by loops over pairs, in float64, as an independent reference."""

import itertools

import numpy as np

from thinking.networks.attention.patterns import Dense, Global, Strided, TopK, Window, pattern_parts


def make_mask(pattern, q, k, causal, segments):
    """[B, G, T, T] bool of q [B, T, H, E], k [B, T, G, E] and segments [B, T]."""
    rows, tokens, heads = k.shape[:3]
    visible = np.zeros((rows, heads, tokens, tokens), bool)
    for part, b, g in itertools.product(pattern_parts(pattern), range(rows), range(heads)):
        selected_blocks = _select_blocks(part, q, k, b, g, causal, segments[b] > 0) if isinstance(part, TopK) else None
        for i, j in itertools.product(range(tokens), repeat=2):
            same_segment = segments[b, i] == segments[b, j] > 0
            if same_segment and not (causal and j > i) and _is_visible(part, i, j, selected_blocks):
                visible[b, g, i, j] = True
    return visible


def compute_attention(q, k, v, mask):
    """[B, T, H, E] under a mask [B, G, T, T]."""
    rows, tokens, heads, head_dim = q.shape
    group_size = heads // k.shape[2]
    output = np.zeros(q.shape)
    for b, h, i in itertools.product(range(rows), range(heads), range(tokens)):
        keys = np.flatnonzero(mask[b, h // group_size, i])
        if len(keys):
            logits = k[b, keys, h // group_size].astype(float) @ q[b, i, h] / np.sqrt(head_dim)
            weights = np.exp(logits - logits.max())
            output[b, i, h] = weights @ v[b, keys, h // group_size] / weights.sum()
    return output


def _is_visible(part, i, j, selected_blocks):
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
            return j // block in selected_blocks[i // block]


def _select_blocks(part, q, k, b, g, causal, valid):
    """The blocks of keys that each block of queries selects."""
    tokens, group_size = len(valid), q.shape[2] // k.shape[2]
    tokens_of_block = [
        [t for t in range(start, min(start + part.block_size, tokens)) if valid[t]]
        for start in range(0, tokens, part.block_size)
    ]
    selected_blocks = []
    for own_block in range(len(tokens_of_block)):
        query_block = own_block - 1 if causal else own_block
        block_query = (
            sum(
                (
                    q[b, t, g * group_size : (g + 1) * group_size].astype(float).sum(0)
                    for t in tokens_of_block[query_block]
                ),
                np.zeros(q.shape[3]),
            )
            if query_block >= 0
            else None
        )
        candidates = [
            j for j in range(own_block if causal else len(tokens_of_block)) if j != own_block and tokens_of_block[j]
        ]
        scores = {j: float(block_query @ k[b, tokens_of_block[j], g].astype(float).mean(0)) for j in candidates}
        selected_blocks.append({own_block, *sorted(candidates, key=lambda j: (-scores[j], j))[: part.num_blocks - 1]})
    return selected_blocks
