"""Clocks, fakes, strategies and a device in virtual time: for our tests and for others'."""
