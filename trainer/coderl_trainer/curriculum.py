"""stub"""

import random


class Curriculum:
    def __init__(self, tasks, seed=0):
        self.tasks = tasks
        self.seed = seed

    def draw(self, n, step, attempt):
        return random.Random(f"{self.seed}:{step}:{attempt}").sample(self.tasks, min(n, len(self.tasks)))

    def tell(self, task, rewards):
        pass

    def to_text(self):
        return ""

    def restore(self, text):
        pass
