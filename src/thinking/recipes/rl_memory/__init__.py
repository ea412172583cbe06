"""Policies with a memory, in environments that hide what a policy needs."""
