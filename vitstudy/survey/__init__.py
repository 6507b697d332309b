"""The survey: its tables as data, the Efficient Error Rate, and an audit of what it prints.

L. Papa, P. Russo, I. Amerini, L. Zhou, A survey on efficient vision transformers: algorithms,
techniques, and performance benchmarking, 2023.
"""
