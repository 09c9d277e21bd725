"""A world in which real drivers serve scripted clients on a bad network, decided by one seed.

`world.py` puts it together; who does what, and what must hold all the same, is a file each.
"""
