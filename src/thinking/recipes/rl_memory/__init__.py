"""Policies with a memory, in worlds that hide what a policy needs."""
