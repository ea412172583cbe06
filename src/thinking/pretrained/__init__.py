"""Trained models as folders of the hub's layout: export and load, and those that the package ships."""
