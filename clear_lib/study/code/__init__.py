"""Code generation: tasks, a sandbox that runs what a model wrote, recordings and the protocol of the paper's Table 2."""
