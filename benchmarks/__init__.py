"""Measurements that anyone can run; results are quoted in docs/performance.md with their commands."""
