"""Models of others with the interface of CMATH, one file each; docs/baselines.md says how to add one."""
