"""Programs that look for what breaks h1core: the simulation, and the mutants that prove it. None of it is shipped."""
