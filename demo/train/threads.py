"""Chooses the number of threads while training, for machines that are shared.

Two threads that wait for each other at the end of every operation are slower than one
as soon as something else occupies a core. Which is better changes from minute to minute.
"""

import torch

TRIAL_STEPS = 3
ROUND_STEPS = 40


class ThreadChooser:
    """Tries every number of threads for a few steps, then stays with the fastest."""

    def __init__(self, most):
        self.trials = [count for count in range(1, most + 1) for _ in range(TRIAL_STEPS)]
        self.seconds = {}
        self.position = 0
        self.count = most

    def before_step(self):
        """Sets the number of threads for the next step."""
        if self.position < len(self.trials):
            self.count = self.trials[self.position]
        elif self.position == len(self.trials):
            self.count = min(self.seconds, key=self.seconds.get)
        torch.set_num_threads(self.count)

    def after_step(self, seconds):
        """Notes how long the step took."""
        if self.position < len(self.trials):
            first = self.position % TRIAL_STEPS == 0
            best = seconds if first else min(seconds, self.seconds[self.count])
            self.seconds[self.count] = best
        self.position = (self.position + 1) % (len(self.trials) + ROUND_STEPS)
