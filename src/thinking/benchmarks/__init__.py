"""What this project's parts cost on a machine, as rows of figures; what they are compared with runs beside them."""
