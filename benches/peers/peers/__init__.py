"""Compares ways to wait for N jobs. `main.py` beside this folder is the command."""
