"""Doors for training loops of other packages. Each module needs its package, an extra of this one, and is imported by its own name:

``from throughtime.integrations import sb3`` (``pip install throughtime[sb3]``), ``torchrl``, ``lightning``.
"""
