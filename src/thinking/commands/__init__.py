"""The command line `thinking`: lists, starts and uses runs. Free of JAX, but for what a task imports."""
