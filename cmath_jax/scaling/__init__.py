"""Scaling studies: training steps measured against devices, engine, width, batch, length, population and precision.

`run_studies` measures the points of an experiment file that defines `scaling(config)`, and `scaling.report` writes what
they came to: a table, figures and a page that opens offline.
"""
