"""Forward in time: one walk with every layer linearised, and what is carried along it in place of the past."""
