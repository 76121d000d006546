"""Benchmarks that set the reference beside other stacks, and beside what it is made of.

Absolute times mean little on shared machines. Whatever is compared therefore takes turns in one
run (A B A B …), and what is reported first is the ratio of each turn, its median and its spread.
"""
